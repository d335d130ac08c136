//! Real nodes of mining networks as peers for tests, and bridges through which miners mine on them.
//! [`Tessera`] and [`LiteWitness`] are peers of the ledger.
//!
//! A node is Bitcoin's or Monero's own program on a private chain, whose coins are worth nothing. A
//! bridge is a small pool: it serves miners by their Stratum dialect (`daylight_stratum::pool`), and
//! gets its work from the node by RPC. A block counts only once the node has it at the top of its
//! chain.
//!
//! ```no_run
//! # async fn example() -> daylight_peers::Result<()> {
//! use daylight_peers::{Btcd, bridge};
//! use daylight_stratum::Difficulty;
//!
//! let node = Btcd::start().await?;
//! let listen = "127.0.0.1:0".parse().expect("an address");
//! let pool = bridge::v1::start(&node, Difficulty::ONE, listen).await?;
//! println!("mine at stratum+tcp://{}", pool.address());
//! let books = pool.until(|books| books.blocks.len() >= 3).await;
//! println!("{} shares", books.shares["wallet.worker"].accepted);
//! # Ok(())
//! # }
//! ```
//!
//! [`Monerod`] and [`bridge::monero`] are the same for Monero, with its dialect of Stratum.
//! `cargo run -p daylight-peers --example pool -- btcd` opens such a pool to mine at by hand.
//!
//! # Programs
//!
//! | | program | from |
//! |---|---|---|
//! | [`Btcd`] | btcd, a full node of Bitcoin, with `--regtest` | built from source with Go by the module in `testbed/peers/btcd`, once, and kept in the user's cache |
//! | [`Tessera`] | Tessera's `fsck` and POSIX logs, for `daylight-ledger` | built in the same way by the module in `testbed/peers/tessera` |
//! | [`LiteWitness`] | torchwood's witness, for `daylight-ledger` | the same, by the module in `testbed/peers/litewitness` |
//! | [`Monerod`] | Monero's own node, with `--regtest --offline` | the `PATH`: Debian's package `monero` |
//!
//! [`Error::is_missing`] recognises that such a program is not available, so that a test can be
//! ignored.
//!
//! Nodes listen on free loopback ports and keep their files in a temporary directory. Each ends when
//! its value is dropped, and also when this process ends for any reason: its standard input closes
//! then, and a shell ends it. Bridges listen at the address that they are given, which other machines
//! may be able to reach.

pub mod bridge;
mod btcd;
mod daemon;
mod error;
mod litewitness;
mod monerod;
mod rpc;
mod tessera;

pub use btcd::Btcd;
pub use error::{Error, Result};
pub use litewitness::LiteWitness;
pub use monerod::Monerod;
pub use rpc::Rpc;
pub use tessera::Tessera;

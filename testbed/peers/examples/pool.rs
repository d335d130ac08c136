//! A node and a pool to mine at by hand: `cargo run -p daylight-peers --example pool -- btcd`, or
//! `monerod`. An address to listen at may follow, such as `0.0.0.0:3333`; the default is a free port on
//! the loopback interface.

use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use daylight_peers::bridge::{self, Pool};
use daylight_peers::{Btcd, Monerod};
use daylight_stratum::Difficulty;
use daylight_testbed::wait_for_termination;

/// Some 43 million hashes a share, which is seconds on a CPU: each is a block on regtest.
const BITCOIN: f64 = 0.01;
/// Half a minute and less on a CPU without `RandomX`'s large memory.
const MONERO: NonZeroU64 = NonZeroU64::new(200).expect("above 0");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let node = arguments.next().unwrap_or_default();
    let listen: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:0").parse()?;
    match &*node {
        "btcd" => {
            let node = Btcd::start().await?;
            let difficulty = Difficulty::new(BITCOIN).ok_or("a difficulty above 0")?;
            serve(bridge::v1::start(&node, difficulty, listen).await?, "sha256d").await;
        }
        "monerod" => {
            let node = Monerod::start(MONERO).await?;
            serve(bridge::monero::start(&node, MONERO, listen).await?, "rx/0").await;
        }
        _ => return Err("name the node to run: btcd or monerod".into()),
    }
    Ok(())
}

/// Prints each block, until Ctrl-C.
async fn serve(pool: Pool, algorithm: &str) {
    println!("mine {algorithm} at stratum+tcp://{}", pool.address());
    let blocks = async {
        for printed in 0.. {
            let books = pool.until(|books| books.blocks.len() > printed).await;
            let block = &books.blocks[printed];
            println!("block {} {} of {}", block.height, block.hash, block.user);
        }
    };
    tokio::select! {
        () = blocks => {}
        () = wait_for_termination() => {}
    }
    for (user, shares) in pool.shares() {
        println!("{user}: {} shares accepted, {} rejected", shares.accepted, shares.rejected);
    }
}

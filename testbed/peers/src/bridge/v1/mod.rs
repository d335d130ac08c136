//! Stratum v1 in front of a node of Bitcoin, by `getblocktemplate` and `submitblock` (BIP 22, 23,
//! 145).
//!
//! The pool makes the blocks: a coinbase with the height (BIP 34), the extranonces and, where the
//! template wants one, the commitment to the witnesses (BIP 141). It verifies each share, and submits
//! those that reach the network's target; such a share is accepted when the node has put its block at
//! the top of the chain. Versions may be rolled (BIP 310, 320). Every login is let in.

mod desk;
mod node;
mod template;

use std::net::SocketAddr;
use std::sync::Arc;

use daylight_stratum::Difficulty;

use super::Pool;
use super::books::Ledger;
use crate::Btcd;
use crate::error::Result;
use desk::Desk;
use node::Node;

/// A script that anybody may spend: `OP_TRUE`.
pub const ANYBODY: [u8; 1] = [0x51];

/// Opens a pool that wants shares of this difficulty, the same for all and for ever. Its blocks pay
/// [`ANYBODY`]. On regtest a share of `1e-6`, some 4,300 hashes, is a block like any other.
pub async fn start(node: &Btcd, difficulty: Difficulty, listen: SocketAddr) -> Result<Pool> {
    start_paying(node, difficulty, listen, &ANYBODY).await
}

/// The same, with an output script that blocks pay.
pub async fn start_paying(
    node: &Btcd,
    difficulty: Difficulty,
    listen: SocketAddr,
    script: &[u8],
) -> Result<Pool> {
    let (ledger, books) = Ledger::new();
    let node = Arc::new(Node::new(node.rpc().clone(), script.to_vec()));
    // What is wrong with the node is said to whoever starts the pool, if it is so at the start.
    node.refresh().await?;
    let news = node.news();
    let watch = Arc::clone(&node).watch();
    let desk = move |number| Desk::new(Arc::clone(&node), ledger.clone(), difficulty, number);
    Pool::open(listen, books, watch, news, desk).await
}

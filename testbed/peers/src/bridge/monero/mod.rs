//! The dialect of Monero's pools in front of its node, by `get_block_template`, `calc_pow` and
//! `submit_block`.
//!
//! The node does the cryptography: it makes a template for each miner, with an extra nonce of the
//! miner's own, and it computes the hash of each share. The pool submits the shares that reach the
//! network's difficulty; such a share is accepted when the node has put its block at the top of the
//! chain. Every login is let in.

mod desk;
mod node;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::Pool;
use super::books::Ledger;
use crate::Monerod;
use crate::error::Result;
use desk::Desk;
use node::Node;

/// Opens a pool that wants shares of so many hashes on average, the same for all and for ever; no
/// rarer ones than blocks, though. Its blocks pay [`Monerod::WALLET`].
pub async fn start(node: &Monerod, difficulty: NonZeroU64, listen: SocketAddr) -> Result<Pool> {
    let (ledger, books) = Ledger::new();
    let node = Arc::new(Node::new(node.rpc().clone()));
    // What is wrong with the node is said to whoever starts the pool, if it is so at the start.
    node.refresh().await?;
    let news = node.news();
    let watch = Arc::clone(&node).watch();
    let desk = move |number| Desk::new(Arc::clone(&node), ledger.clone(), difficulty, number);
    Pool::open(listen, books, watch, news, desk).await
}

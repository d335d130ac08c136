//! The dialect of Monero's pools in front of its node, by `get_block_template`, `calc_pow` and
//! `submit_block`.
//!
//! The node does the cryptography: it makes a template for each miner, with an extra nonce of the
//! miner's own, and it computes the hash of each share. The bridge submits the shares that reach the
//! network's difficulty; such a share is accepted when the node has put its block at the top of the
//! chain. Every login is let in.

mod node;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use daylight_stratum::pool::{Options, Server};

use super::Pool;
use crate::Monerod;
use crate::error::{Error, Result};
use node::Node;

/// Opens a pool with shares of this many hashes on average for all miners, though none rarer than a
/// block. Its blocks pay [`Monerod::WALLET`].
pub async fn start(node: &Monerod, difficulty: NonZeroU64, listen: SocketAddr) -> Result<Pool> {
    let node = Arc::new(Node::new(node.rpc().clone(), difficulty));
    // Reports a node that does not work to the caller, rather than to miners.
    node.refresh().await?;
    let server = Server::monero(listen, Arc::clone(&node), Options::default()).await;
    let server = server.map_err(Error::io(format!("listening on {listen}")))?;
    Ok(Pool::new(server, node.books(), node.watch()))
}

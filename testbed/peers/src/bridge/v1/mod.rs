//! Stratum v1 in front of a node of Bitcoin, by `getblocktemplate` and `submitblock` (BIP 22, 23,
//! 145).
//!
//! The bridge makes the blocks: a coinbase with the height (BIP 34), the extranonces and, where the
//! template wants one, the commitment to the witnesses (BIP 141). It verifies each share, and submits
//! those that reach the network's target; such a share is accepted when the node has put its block at
//! the top of the chain. Versions may be rolled (BIP 310, 320). Every login is let in.

mod node;
mod template;

use std::net::SocketAddr;
use std::sync::Arc;

use daylight_stratum::Difficulty;
use daylight_stratum::pool::{Options, Server};

use super::Pool;
use crate::Btcd;
use crate::error::{Error, Result};
use node::Node;

/// A script that anybody may spend: `OP_TRUE`.
pub const ANYBODY: [u8; 1] = [0x51];

/// Opens a pool with shares of one difficulty for all miners. Its blocks pay [`ANYBODY`]. On regtest
/// a share of `1e-6`, some 4,300 hashes, is a block like any other.
pub async fn start(node: &Btcd, difficulty: Difficulty, listen: SocketAddr) -> Result<Pool> {
    start_paying(node, difficulty, listen, &ANYBODY).await
}

/// Opens the same pool with blocks that pay another output script.
pub async fn start_paying(
    node: &Btcd,
    difficulty: Difficulty,
    listen: SocketAddr,
    script: &[u8],
) -> Result<Pool> {
    let node = Arc::new(Node::new(node.rpc().clone(), script.to_vec(), difficulty));
    // Reports a node that does not work to the caller, rather than to miners.
    node.refresh().await?;
    let server = Server::v1(listen, Arc::clone(&node), Options::default()).await;
    let server = server.map_err(Error::io(format!("listening on {listen}")))?;
    Ok(Pool::new(server, node.books(), node.watch()))
}

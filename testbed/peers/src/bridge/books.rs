//! What a pool counts.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// What a pool has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// The shares, by the name under which the miner logged in.
    pub shares: BTreeMap<String, Shares>,
    /// The blocks that the node took and put at the top of its chain, in that order.
    pub blocks: Vec<Block>,
}

/// A miner's shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Those that were taken.
    pub accepted: u64,
    /// Those that were not.
    pub rejected: u64,
}

/// A block that the node took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub height: u64,
    /// Its hash, as the node's programs write it.
    pub hash: String,
    /// Whose share it was.
    pub user: String,
}

/// Where it is written down.
#[derive(Clone, Debug)]
pub(super) struct Ledger(watch::Sender<Books>);

impl Ledger {
    pub(super) fn new() -> (Self, watch::Receiver<Books>) {
        let (sender, receiver) = watch::channel(Books::default());
        (Self(sender), receiver)
    }

    pub(super) fn share(&self, user: &str, accepted: bool) {
        self.0.send_modify(|books| {
            let shares = books.shares.entry(user.to_owned()).or_default();
            match accepted {
                true => shares.accepted += 1,
                false => shares.rejected += 1,
            }
        });
    }

    pub(super) fn block(&self, block: Block) {
        self.0.send_modify(|books| books.blocks.push(block));
    }
}

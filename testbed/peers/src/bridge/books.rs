use std::collections::BTreeMap;

use daylight_stratum::pool::Event;
use tokio::sync::watch;

/// Shares and blocks that a pool has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// The shares, by the name under which the miner logged in.
    pub shares: BTreeMap<String, Shares>,
    /// The blocks that the node accepted and put at the top of its chain, in that order.
    pub blocks: Vec<Block>,
}

/// A miner's shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub accepted: u64,
    pub rejected: u64,
}

/// A block that the node accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub height: u64,
    /// In the notation of the node's programs.
    pub hash: String,
    /// The miner whose share it was.
    pub user: String,
}

/// The writing end of [`Books`].
#[derive(Debug, Default)]
pub(super) struct Ledger(watch::Sender<Books>);

impl Ledger {
    pub(super) fn books(&self) -> watch::Receiver<Books> {
        self.0.subscribe()
    }

    /// Counts a worker's share. Other events are not the books' concern.
    pub(super) fn record(&self, user: Option<&str>, event: &Event) {
        let (Some(user), Event::Accepted { .. } | Event::Rejected(_)) = (user, event) else {
            return;
        };
        self.0.send_modify(|books| {
            let shares = books.shares.entry(user.to_owned()).or_default();
            match event {
                Event::Accepted { .. } => shares.accepted += 1,
                _ => shares.rejected += 1,
            }
        });
    }

    pub(super) fn block(&self, height: u64, hash: String, user: &str) {
        let block = Block { height, hash, user: user.to_owned() };
        self.0.send_modify(|books| books.blocks.push(block));
    }
}

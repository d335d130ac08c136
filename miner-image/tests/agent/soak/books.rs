//! The pool's own count of what it got and answered.

use std::collections::{BTreeMap, HashSet};

use super::shapes::Verdict;

/// Number of shares by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdicts {
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) stale: u64,
}

impl Verdicts {
    pub(super) fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Rejected => self.rejected += 1,
            Verdict::Stale => self.stale += 1,
        }
    }

    pub(super) fn sum(self) -> u64 {
        self.accepted + self.rejected + self.stale
    }
}

/// Count of a pool over all of its connections.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) connections: u64,
    pub(super) open: usize,
    pub(super) logins: u64,
    /// Shares that arrived.
    pub(super) shares: u64,
    /// Shares by the answer that was sent.
    pub(super) answered: Verdicts,
    /// Of these, answers that may not have been read: they were sent within seconds before the agent
    /// closed the connection of its own accord.
    pub(super) doubtful: Verdicts,
    /// Shares that were not answered.
    pub(super) unanswered: u64,
    /// Shares of a built-in engine that do not reach the difficulty, or were sent before.
    pub(super) wrong: Vec<String>,
    pub(super) hashes: HashSet<[u8; 32]>,
    /// How often the pool misbehaved, by kind.
    pub(super) misbehaved: BTreeMap<&'static str, u64>,
    pub(super) pongs: u64,
}

/// Shares as the agent counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) stale: u64,
    pub(super) lost: u64,
}

impl Books {
    /// Compares them with the agent's count. Returns what differs, as sentences.
    ///
    /// Equal means: of each verdict that the pool sent, the agent counted exactly as many, except that
    /// it may have missed a doubtful one, which it then counts as lost; and it counts a share as lost
    /// exactly if the pool did not answer it, or doubtfully. Shares that the agent did not send, since
    /// their job or connection had ended, are stale with it, and unknown to the pool.
    pub(super) fn differ(&self, agent: Counted) -> Vec<String> {
        let Counted { accepted, rejected, stale, lost } = agent;
        let Self { answered, doubtful, unanswered, .. } = self;
        let mut differences = vec![];
        let mut within = |what: &str, count: u64, least: u64, most: u64| {
            if !(least..=most).contains(&count) {
                differences
                    .push(format!("{what}: the agent has {count}, the pool {least}..={most}"));
            }
        };
        let sent = |all: u64, doubtful: u64| (all - doubtful, all);
        let (least, most) = sent(answered.accepted, doubtful.accepted);
        within("accepted", accepted, least, most);
        let (least, most) = sent(answered.rejected, doubtful.rejected);
        within("rejected", rejected, least, most);
        within("lost", lost, *unanswered, unanswered + doubtful.sum());
        within("stale", stale, answered.stale - doubtful.stale, u64::MAX);
        // A doubtful answer is either read or lost, so the sum is exact, but for what was not sent.
        within("all", accepted + rejected + stale + lost, self.shares, u64::MAX);
        differences
    }
}

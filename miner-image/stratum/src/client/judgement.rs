//! The books of a client: what became of each share.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::{Status, Verdict};
use crate::Failure;

/// Counts a verdict, and sends it to where the share came from.
pub(super) fn judge(
    status: &watch::Sender<Status>,
    answer: oneshot::Sender<Verdict>,
    verdict: Verdict,
    hashes: u64,
) {
    status.send_modify(|status| match &verdict {
        Verdict::Accepted => {
            status.accepted += 1;
            status.accepted_hashes = status.accepted_hashes.saturating_add(hashes);
        }
        Verdict::Rejected(failure) => {
            *(if failure.is_stale() { &mut status.stale } else { &mut status.rejected }) += 1;
            status.rejection = Some(failure.clone());
        }
        Verdict::Stale => status.stale += 1,
        Verdict::Lost => status.lost += 1,
    });
    // Fails where the engine does not wait for the verdict.
    let _ = answer.send(verdict);
}

/// Shares of one connection that were sent and are not judged yet. Those that are left when it is
/// dropped are lost.
#[derive(Debug)]
pub(super) struct Unjudged {
    status: watch::Sender<Status>,
    shares: HashMap<u64, Sent>,
    /// Shares in a row that were never judged.
    unanswered: u32,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    hashes: u64,
    answer: oneshot::Sender<Verdict>,
}

/// Shares in a row that a pool may leave unanswered. Some drop shares under load.
const MOST_UNANSWERED: u32 = 3;

impl Unjudged {
    pub(super) fn new(status: watch::Sender<Status>) -> Self {
        Self { status, shares: HashMap::new(), unanswered: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    pub(super) fn sent(&mut self, id: u64, hashes: u64, answer: oneshot::Sender<Verdict>) {
        self.shares.insert(id, Sent { at: Instant::now(), hashes, answer });
    }

    /// Enters the pool's verdict. Returns `false` if it is on no share of this connection, and counts as
    /// nothing: there is none of this number, or it is judged already.
    pub(super) fn judged(&mut self, id: u64, verdict: Result<(), Failure>) -> bool {
        let Some(Sent { at, hashes, answer }) = self.shares.remove(&id) else { return false };
        self.unanswered = 0;
        self.status.send_modify(|status| status.latency = Some(at.elapsed()));
        let verdict = verdict.map_or_else(Verdict::Rejected, |()| Verdict::Accepted);
        judge(&self.status, answer, verdict, hashes);
        true
    }

    /// Returns the end of the time that the pool has to judge the oldest share.
    pub(super) fn due(&self, limit: Duration) -> Option<Instant> {
        self.shares.values().map(|sent| sent.at + limit).min()
    }

    /// Gives up the shares whose time is over. Returns `false` if the pool seems to be dead: it has sent
    /// nothing at all since such a share, or leaves too many unanswered.
    pub(super) fn give_up(&mut self, limit: Duration, last_received: Instant) -> bool {
        let late = self.shares.extract_if(|_, sent| sent.at.elapsed() >= limit);
        let mut silent = false;
        for (_, Sent { at, answer, .. }) in late {
            silent |= at >= last_received;
            self.unanswered += 1;
            judge(&self.status, answer, Verdict::Lost, 0);
        }
        !silent && self.unanswered <= MOST_UNANSWERED
    }
}

impl Drop for Unjudged {
    fn drop(&mut self) {
        for (_, sent) in self.shares.drain() {
            judge(&self.status, sent.answer, Verdict::Lost, 0);
        }
    }
}

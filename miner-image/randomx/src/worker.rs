//! One thread of the engine.

use std::sync::atomic::{AtomicU64, Ordering};

use daylight_stratum::client::{Offer, Shares, wait_for_work};
use daylight_stratum::monero::{Job, Share, Work};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::job::{Part, seed};
use crate::{Feed, Hasher};

/// One thread of the engine.
pub(crate) struct Worker<'a> {
    /// Seed of the memory.
    pub(crate) seed: [u8; 32],
    /// Its part of every job's nonces.
    pub(crate) part: Part,
    /// The last blob, and the next nonce for it, if one is left.
    pub(crate) begun: Option<(Vec<u8>, Option<u32>)>,
    pub(crate) work: Feed,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) shares: Shares<Share>,
    pub(crate) hashes: &'a AtomicU64,
    pub(crate) runtime: Handle,
}

impl Worker<'_> {
    /// Hashes until it has to stop, or there is work that needs other memory.
    pub(crate) fn run(mut self, mut hasher: Hasher<'_>) {
        while !*self.stop.borrow() {
            let offer = self.work.borrow_and_update().clone();
            if let Some(offer) = offer {
                if seed(&offer.work.job) != Ok(self.seed) {
                    return;
                }
                self.hash(&offer, &mut hasher);
            }
            if !wait_for_work(&self.runtime, &mut self.work, &mut self.stop, |stop| *stop) {
                return;
            }
        }
    }

    /// Hashes until there is other work, or nothing is left of this.
    fn hash(&mut self, offer: &Offer<Work>, hasher: &mut Hasher<'_>) {
        let job = &offer.work.job;
        let nonces = self.part.nonces(&offer.work);
        // A pool may send the same blob with another target. Continuing where the last job ended keeps
        // shares from being submitted twice.
        let mut nonce = match self.begun.take() {
            Some((blob, nonce)) if blob == job.blob => nonce,
            _ => Some(*nonces.start()),
        };
        let target = job.target();
        let mut blob = job.blob.clone();
        if let Some(first) = nonce {
            blob[Job::NONCE].copy_from_slice(&first.to_le_bytes());
            hasher.begin(&blob);
        }
        while let Some(at) = nonce {
            nonce = at.checked_add(1).filter(|next| nonces.contains(next));
            // The library computes a hash while it begins with the next input, so there must be one. After
            // the last nonce that is the same input again, whose hash is never fetched.
            blob[Job::NONCE].copy_from_slice(&nonce.unwrap_or(at).to_le_bytes());
            let result = hasher.next(&blob);
            self.hashes.fetch_add(1, Ordering::Relaxed);
            if target.reached_by(&result) {
                let share = Share { job: job.id.clone(), nonce: at.to_le_bytes(), result };
                // The client counts the verdict.
                drop(self.shares.submit(offer.connection, share));
            }
            if *self.stop.borrow() || self.work.has_changed().unwrap_or(true) {
                break;
            }
        }
        self.begun = Some((job.blob.clone(), nonce));
    }
}

//! Threads that hash.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Unit;
use super::kernel::{BATCH, Kernel, Scan};
use crate::client::{Offer, Shares, wait_for_work};
use crate::v1::{Share, Work};

/// Hashes what a client is offered, and gives it the shares.
#[derive(Debug)]
pub struct Engine {
    stop: watch::Sender<bool>,
    lanes: Vec<(Arc<AtomicU64>, JoinHandle<()>)>,
}

/// Where the work comes from: [`crate::client::Client::work`].
pub type Feed = watch::Receiver<Option<Arc<Offer<Work>>>>;

impl Engine {
    /// Starts as many threads. Has to be called within a runtime, which does none of the hashing.
    pub fn start(
        threads: NonZeroUsize,
        kernel: Kernel,
        work: &Feed,
        shares: &Shares<Share>,
    ) -> io::Result<Self> {
        let mut engine = Self { stop: watch::channel(false).0, lanes: vec![] };
        for index in 0..threads.get() {
            let hashes = Arc::new(AtomicU64::new(0));
            let lane = Lane {
                kernel,
                first: index as u64,
                step: threads.get() as u64,
                work: work.clone(),
                stop: engine.stop.subscribe(),
                shares: shares.clone(),
                hashes: Arc::clone(&hashes),
                runtime: Handle::current(),
            };
            let thread = thread::Builder::new().name(format!("sha256d-{index}"));
            engine.lanes.push((hashes, thread.spawn(move || lane.run())?));
        }
        Ok(engine)
    }

    /// Hashes computed so far, by thread.
    pub fn hashes(&self) -> Vec<u64> {
        self.lanes.iter().map(|(hashes, _)| hashes.load(Ordering::Relaxed)).collect()
    }

    /// Ends the threads, some milliseconds later: what they found is with the client then. Gives
    /// the hashes computed, by thread. Blocks.
    pub fn stop(mut self) -> Vec<u64> {
        self.stop.send_replace(true);
        let lanes = std::mem::take(&mut self.lanes);
        let ended = lanes.into_iter().map(|(hashes, thread)| {
            // A thread that panicked has said so; what it counted stands.
            let _ = thread.join();
            hashes.load(Ordering::Relaxed)
        });
        ended.collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// One thread's part.
struct Lane {
    kernel: Kernel,
    /// The first of its units, and how many lie between two of them.
    first: u64,
    step: u64,
    work: Feed,
    stop: watch::Receiver<bool>,
    shares: Shares<Share>,
    hashes: Arc<AtomicU64>,
    runtime: Handle,
}

impl Lane {
    fn run(mut self) {
        while !*self.stop.borrow() {
            let offer = self.work.borrow_and_update().clone();
            if let Some(offer) = offer {
                self.hash(&offer);
            }
            if !wait_for_work(&self.runtime, &mut self.work, &mut self.stop, |stop| *stop) {
                return;
            }
        }
    }

    /// Hashes until there is other work, or nothing left of this.
    fn hash(&self, offer: &Offer<Work>) {
        let target = offer.work.difficulty.target();
        let mut unit = self.first;
        while let Some(Unit { mut share, nonces }) = Unit::of(&offer.work, unit) {
            unit += self.step;
            let scan = Scan::new(offer.work.header(&share), target);
            for first in nonces.step_by(BATCH as usize) {
                let found = self.kernel.scan(&scan, first, BATCH);
                self.hashes.fetch_add(BATCH.into(), Ordering::Relaxed);
                for nonce in found {
                    share.nonce = nonce;
                    // The client counts what becomes of it.
                    drop(self.shares.submit(offer.connection, share.clone()));
                }
                if *self.stop.borrow() || self.work.has_changed().unwrap_or(true) {
                    return;
                }
            }
        }
    }
}

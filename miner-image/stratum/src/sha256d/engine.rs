//! The engine: threads that search for shares.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use daylight_sha256d::{BATCH, Kernel, Scan};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Unit;
use crate::client::{Offer, Shares, wait_for_work};
use crate::v1::{Share, Work};

/// Searches a client's work, and submits the shares to it.
#[derive(Debug)]
pub struct Engine {
    stop: watch::Sender<bool>,
    workers: Vec<(Arc<AtomicU64>, JoinHandle<()>)>,
}

/// Source of the work: [`crate::client::Client::work`].
pub type Feed = watch::Receiver<Option<Arc<Offer<Work>>>>;

impl Engine {
    /// Starts the threads. Must be called within a runtime, which does none of the hashing.
    pub fn start(
        threads: NonZeroUsize,
        kernel: Kernel,
        work: &Feed,
        shares: &Shares<Share>,
    ) -> io::Result<Self> {
        let mut engine = Self { stop: watch::channel(false).0, workers: vec![] };
        for index in 0..threads.get() {
            let hashes = Arc::new(AtomicU64::new(0));
            let worker = Worker {
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
            engine.workers.push((hashes, thread.spawn(move || worker.run())?));
        }
        Ok(engine)
    }

    /// Hashes computed so far, by thread.
    pub fn hashes(&self) -> Vec<u64> {
        self.workers.iter().map(|(hashes, _)| hashes.load(Ordering::Relaxed)).collect()
    }

    /// Stops the threads, which takes some milliseconds, and returns the hashes computed, by thread.
    /// Every share found is with the client then. Blocks.
    pub fn stop(mut self) -> Vec<u64> {
        self.stop.send_replace(true);
        let workers = std::mem::take(&mut self.workers);
        let ended = workers.into_iter().map(|(hashes, thread)| {
            // A panic has been printed, and the count up to it is right.
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

/// One thread of the engine.
struct Worker {
    kernel: Kernel,
    /// Its first unit, and the distance to the next: the units of all threads interleave.
    first: u64,
    step: u64,
    work: Feed,
    stop: watch::Receiver<bool>,
    shares: Shares<Share>,
    hashes: Arc<AtomicU64>,
    runtime: Handle,
}

impl Worker {
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

    /// Searches until there is other work, or nothing is left of this.
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
                    // The client counts the verdict.
                    drop(self.shares.submit(offer.connection, share.clone()));
                }
                if *self.stop.borrow() || self.work.has_changed().unwrap_or(true) {
                    return;
                }
            }
        }
    }
}

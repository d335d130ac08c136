//! Threads that hash.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::kernel::{BATCH, Kernel, Scan};
use crate::client::{Offer, Shares};
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
            if !self.wait() {
                return;
            }
        }
    }

    /// Waits for other work; false once there is to be none.
    fn wait(&mut self) -> bool {
        let Self { work, stop, runtime, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                changed = work.changed() => changed.is_ok(),
                _ = stop.wait_for(|stop| *stop) => false,
            }
        })
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

/// The part of a job's space that one thread goes through before it takes the next: a sixteenth of
/// the nonces of one header.
struct Unit {
    share: Share,
    nonces: std::ops::RangeInclusive<u32>,
}

/// The nonces' parts a header.
const PARTS: u64 = 16;

impl Unit {
    /// A unit by its number: nonces first, then versions, then the miner's part of the coinbase.
    /// None behind the last.
    fn of(work: &Work, number: u64) -> Option<Self> {
        let (part, header) = (number % PARTS, number / PARTS);
        let versions = 1_u64 << work.version_mask.count_ones();
        let (version, extranonce2) = (header % versions, header / versions);
        let size = usize::from(work.extranonce2_size);
        if size < 8 && extranonce2 >> (8 * size) > 0 {
            return None;
        }
        let mut bytes = extranonce2.to_le_bytes().to_vec();
        bytes.resize(size, 0);
        let length = (1_u64 << 32) / PARTS;
        let share = Share {
            job: work.job.id.clone(),
            extranonce2: bytes,
            time: work.job.time,
            nonce: 0,
            version_bits: (work.version_mask > 0).then(|| spread(version, work.version_mask)),
        };
        Some(Self { share, nonces: (part * length) as u32..=((part + 1) * length - 1) as u32 })
    }
}

/// The lowest bits of a number, in the places that a mask has.
fn spread(number: u64, mask: u32) -> u32 {
    let places = (0..32).filter(|place| mask >> place & 1 == 1).enumerate();
    places.fold(0, |bits, (index, place)| bits | ((number >> index & 1) as u32) << place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Difficulty;
    use crate::v1::Job;
    use std::collections::HashSet;

    fn work(extranonce2_size: u8, version_mask: u32) -> Work {
        let job = Job {
            id: "1".into(),
            previous: [1; 32],
            coinbase1: vec![2],
            coinbase2: vec![3],
            branches: vec![],
            version: 0x2000_0000,
            bits: 0x1d00_ffff,
            time: 4,
            clean: true,
        };
        Work {
            job: Arc::new(job),
            extranonce1: vec![],
            extranonce2_size,
            difficulty: Difficulty::ONE,
            version_mask,
        }
    }

    #[test]
    fn units_go_through_the_whole_space_and_nothing_twice() {
        for (size, mask, headers) in
            [(0, 0, 1), (0, 0x6000, 4), (1, 0, 256), (1, 0x1000_2000, 1024)]
        {
            let work = work(size, mask);
            let units = (0..).map_while(|number| Unit::of(&work, number));
            let mut seen = HashSet::new();
            let mut count = 0;
            for Unit { share, nonces } in units {
                count += 1;
                assert_eq!(nonces.end() - nonces.start(), u32::MAX / 16);
                assert_eq!(share.version_bits.unwrap_or(0) & !mask, 0);
                assert!(seen.insert((work.header(&share), *nonces.start())));
            }
            assert_eq!(count, headers * 16);
        }
        assert!(Unit::of(&work(8, 0), u64::MAX).is_some());
    }
}

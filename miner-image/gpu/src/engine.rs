//! The engine: a thread for each device.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use daylight_stratum::client::{Offer, Shares, wait_for_work};
use daylight_stratum::sha256d::{Feed, Scan, Unit};
use daylight_stratum::v1::{Share, Work};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::batch_size::BatchSize;
use crate::kernel::{Batch, IN_FLIGHT};
use crate::{Device, DeviceLost, Kernel};

/// Hashes a client's work, and submits the shares to it.
#[derive(Debug)]
pub struct Engine {
    order: watch::Sender<Order>,
    lost: watch::Receiver<Option<DeviceLost>>,
    workers: Vec<(Arc<AtomicU64>, JoinHandle<()>)>,
}

/// Order to all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Hash,
    Stop,
    #[cfg(feature = "loss")]
    Lose,
}

impl Engine {
    /// Starts a thread for each device, which opens the device first: the first hash may take some
    /// seconds. Must be called within a runtime, which does none of the work.
    pub fn start(devices: &[Device], work: &Feed, shares: &Shares<Share>) -> io::Result<Self> {
        let (order, orders) = watch::channel(Order::Hash);
        let (loss, lost) = watch::channel(None);
        let loss = Arc::new(loss);
        let mut engine = Self { order: order.clone(), lost, workers: vec![] };
        for (place, device) in devices.iter().enumerate() {
            let hashes = Arc::new(AtomicU64::new(0));
            let mut worker = Worker {
                first: place as u64,
                step: devices.len() as u64,
                work: work.clone(),
                orders: orders.clone(),
                shares: shares.clone(),
                hashes: Arc::clone(&hashes),
                runtime: Handle::current(),
                task: None,
                size: BatchSize::new(),
            };
            // Work that arrived before is new to this thread.
            worker.work.mark_changed();
            let (device, order, loss) = (device.clone(), order.clone(), Arc::clone(&loss));
            let thread = thread::Builder::new().name(format!("gpu-{}", device.index()));
            let run = move || {
                if let Err(error) = worker.run(&device) {
                    loss.send_modify(|first| {
                        first.get_or_insert(error);
                    });
                    order.send_replace(Order::Stop);
                }
            };
            engine.workers.push((hashes, thread.spawn(run)?));
        }
        Ok(engine)
    }

    /// Returns the hashes computed so far, by device, in the order of `start`.
    pub fn hashes(&self) -> Vec<u64> {
        self.workers.iter().map(|(hashes, _)| hashes.load(Ordering::Relaxed)).collect()
    }

    /// Returns the first device that was lost. Its loss ends the hashing on all devices. The channel closes
    /// if the hashing ends without a loss.
    pub fn lost(&self) -> watch::Receiver<Option<DeviceLost>> {
        self.lost.clone()
    }

    /// Stops the hashing within two batches, some 40 ms, and returns the hashes computed, by device.
    /// Every share found is with the client then. A device that is being opened is opened first. Blocks.
    pub fn stop(mut self) -> Vec<u64> {
        self.order.send_replace(Order::Stop);
        let workers = std::mem::take(&mut self.workers);
        let ended = workers.into_iter().map(|(hashes, thread)| {
            // The thread catches panics, and its count is right.
            let _ = thread.join();
            hashes.load(Ordering::Relaxed)
        });
        ended.collect()
    }

    /// Makes all devices fail, for tests.
    #[cfg(feature = "loss")]
    pub fn lose(&self) {
        self.order.send_replace(Order::Lose);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.order.send_replace(Order::Stop);
    }
}

/// The thread of a device.
struct Worker {
    /// Its first unit, and the distance to the next: the units of all devices interleave.
    first: u64,
    step: u64,
    work: Feed,
    orders: watch::Receiver<Order>,
    shares: Shares<Share>,
    hashes: Arc<AtomicU64>,
    runtime: Handle,
    task: Option<Task>,
    size: BatchSize,
}

/// Work, with its progress.
struct Task {
    offer: Arc<Offer<Work>>,
    unit: u64,
    /// The rest of the unit before.
    current: Option<Current>,
}

/// A unit in progress.
struct Current {
    share: Share,
    scan: Scan,
    nonces: RangeInclusive<u32>,
}

/// Share to which the nonces of a batch belong.
struct Purpose {
    connection: u64,
    share: Share,
}

impl Worker {
    fn run(mut self, device: &Device) -> Result<(), DeviceLost> {
        let mut kernel = Kernel::open(device)?;
        // wgpu panics if a driver fails during a wait.
        let ended = catch_unwind(AssertUnwindSafe(|| self.hash(&mut kernel)))
            .unwrap_or_else(|panic| Err(kernel.lost(message(&*panic))));
        if ended.is_err() {
            // Closing a broken device can panic or hang. It does not return within this process anyway.
            std::mem::forget(kernel);
        }
        ended
    }

    /// Hashes until a stop or the end of all work. Batches in flight are always finished: their hashes
    /// are counted, and their shares count.
    fn hash(&mut self, kernel: &mut Kernel) -> Result<(), DeviceLost> {
        let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
        loop {
            let order = *self.orders.borrow();
            #[cfg(feature = "loss")]
            if order == Order::Lose {
                kernel.lose();
            }
            let over = order == Order::Stop || !self.renew();
            while !over && in_flight.len() < IN_FLIGHT {
                let Some((purpose, scan, first, count)) = self.next() else { break };
                in_flight.push_back((purpose, kernel.begin(scan, first, count)?));
            }
            match in_flight.pop_front() {
                Some((purpose, batch)) => self.end(kernel, purpose, batch)?,
                None if over || !self.wait() => return Ok(()),
                None => {}
            }
        }
    }

    /// Takes new work if there is any. Returns false once there will be none. Batches in flight continue,
    /// so that the device does not idle.
    fn renew(&mut self) -> bool {
        match self.work.has_changed() {
            Ok(true) => {
                let offer = self.work.borrow_and_update().clone();
                self.task = offer.map(|offer| Task { offer, unit: self.first, current: None });
                true
            }
            Ok(false) => true,
            Err(_) => false,
        }
    }

    /// Waits for other work. Returns false once there will be none.
    fn wait(&mut self) -> bool {
        let Self { work, orders, runtime, .. } = self;
        let more = wait_for_work(runtime, work, orders, |order| *order != Order::Hash);
        if more {
            // `renew` has to see it.
            work.mark_changed();
        }
        more
    }

    /// Returns the next batch: its share, its header, its first nonce and their number.
    fn next(&mut self) -> Option<(Purpose, Scan, u32, u32)> {
        let task = self.task.as_mut()?;
        let work = &task.offer.work;
        if task.current.as_ref().is_none_or(|current| current.nonces.is_empty()) {
            let Unit { share, nonces } = Unit::of(work, task.unit)?;
            task.unit += self.step;
            let scan = Scan::new(work.header(&share), work.difficulty.target());
            task.current = Some(Current { share, scan, nonces });
        }
        let Current { share, scan, nonces } = task.current.as_mut()?;
        let (first, last) = (*nonces.start(), *nonces.end());
        let count = self.size.nonces(scan.upper()).min(last - first + 1);
        *nonces = match first.checked_add(count) {
            Some(next) => next..=last,
            None => RangeInclusive::new(1, 0),
        };
        let purpose = Purpose { connection: task.offer.connection, share: share.clone() };
        Some((purpose, scan.clone(), first, count))
    }

    fn end(
        &mut self,
        kernel: &mut Kernel,
        purpose: Purpose,
        batch: Batch,
    ) -> Result<(), DeviceLost> {
        let Batch { first, count, begun, .. } = batch;
        let scan = batch.scan.clone();
        let found = kernel.end(batch)?;
        self.size.adapt(count, begun, Instant::now());
        let found = match found {
            Some(found) => found,
            None => kernel.scan(&scan, first, count)?,
        };
        self.hashes.fetch_add(count.into(), Ordering::Relaxed);
        let Purpose { connection, mut share } = purpose;
        for nonce in found {
            share.nonce = nonce;
            // The client counts the verdict.
            drop(self.shares.submit(connection, share.clone()));
        }
        Ok(())
    }
}

/// Returns the message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the driver failed")
}

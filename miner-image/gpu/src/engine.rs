//! Devices that hash for a pool.

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

use crate::kernel::{Batch, IN_FLIGHT};
use crate::pace::Pace;
use crate::{Device, DeviceLost, Kernel};

/// Hashes what a client is offered, and gives it the shares.
#[derive(Debug)]
pub struct Engine {
    order: watch::Sender<Order>,
    lost: watch::Receiver<Option<DeviceLost>>,
    lanes: Vec<(Arc<AtomicU64>, JoinHandle<()>)>,
}

/// What the devices are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Hash,
    Stop,
    #[cfg(feature = "loss")]
    Lose,
}

impl Engine {
    /// Starts hashing on the devices, with a thread each, which opens the device first: some
    /// seconds may pass before the first hash. Has to be called within a runtime, which does none of
    /// the work.
    pub fn start(devices: &[Device], work: &Feed, shares: &Shares<Share>) -> io::Result<Self> {
        let (order, orders) = watch::channel(Order::Hash);
        let (loss, lost) = watch::channel(None);
        let loss = Arc::new(loss);
        let mut engine = Self { order: order.clone(), lost, lanes: vec![] };
        for (place, device) in devices.iter().enumerate() {
            let hashes = Arc::new(AtomicU64::new(0));
            let mut lane = Lane {
                first: place as u64,
                step: devices.len() as u64,
                work: work.clone(),
                orders: orders.clone(),
                shares: shares.clone(),
                hashes: Arc::clone(&hashes),
                runtime: Handle::current(),
                task: None,
                pace: Pace::new(),
            };
            // What is there already is new to the lane.
            lane.work.mark_changed();
            let (device, order, loss) = (device.clone(), order.clone(), Arc::clone(&loss));
            let thread = thread::Builder::new().name(format!("gpu-{}", device.index()));
            let run = move || {
                if let Err(error) = lane.run(&device) {
                    loss.send_modify(|first| {
                        first.get_or_insert(error);
                    });
                    order.send_replace(Order::Stop);
                }
            };
            engine.lanes.push((hashes, thread.spawn(run)?));
        }
        Ok(engine)
    }

    /// Hashes computed so far, by device, in the order in which they were given.
    pub fn hashes(&self) -> Vec<u64> {
        self.lanes.iter().map(|(hashes, _)| hashes.load(Ordering::Relaxed)).collect()
    }

    /// The first device that was lost. It ends the engine: no device hashes any more then, and the
    /// engine can but be stopped. The channel closes where the hashing ended without a loss.
    pub fn lost(&self) -> watch::Receiver<Option<DeviceLost>> {
        self.lost.clone()
    }

    /// Ends the hashing, within two batches, some 40 ms: what they found is with the client then.
    /// A device that is only being opened is opened first. Gives the hashes computed, by device.
    /// Blocks.
    pub fn stop(mut self) -> Vec<u64> {
        self.order.send_replace(Order::Stop);
        let lanes = std::mem::take(&mut self.lanes);
        let ended = lanes.into_iter().map(|(hashes, thread)| {
            // It does not panic, and what it counted stands.
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

/// One device's part.
struct Lane {
    /// The first of its units, and how many lie between two of them.
    first: u64,
    step: u64,
    work: Feed,
    orders: watch::Receiver<Order>,
    shares: Shares<Share>,
    hashes: Arc<AtomicU64>,
    runtime: Handle,
    task: Option<Task>,
    pace: Pace,
}

/// Work, and how far it is done.
struct Task {
    offer: Arc<Offer<Work>>,
    unit: u64,
    /// What is left of the one before.
    current: Option<Current>,
}

/// A unit that is begun.
struct Current {
    share: Share,
    scan: Scan,
    nonces: RangeInclusive<u32>,
}

/// What a batch is hashed for.
struct Purpose {
    connection: u64,
    share: Share,
}

impl Lane {
    fn run(mut self, device: &Device) -> Result<(), DeviceLost> {
        let mut kernel = Kernel::open(device)?;
        // wgpu panics where a driver fails in the midst of a wait.
        let ended = catch_unwind(AssertUnwindSafe(|| self.hash(&mut kernel)))
            .unwrap_or_else(|panic| Err(kernel.lost(said(&*panic))));
        if ended.is_err() {
            // To close what is broken could panic, or take forever.
            std::mem::forget(kernel);
        }
        ended
    }

    /// Hashes until it is told to stop, or there is to be no work any more.
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

    /// Takes up other work if there is some; false once there is to be none. What is in flight
    /// goes on, so that the device does not idle.
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

    /// Waits for other work; false once there is to be none.
    fn wait(&mut self) -> bool {
        let Self { work, orders, runtime, .. } = self;
        let more = wait_for_work(runtime, work, orders, |order| *order != Order::Hash);
        if more {
            // It is still to be taken up.
            work.mark_changed();
        }
        more
    }

    /// The next batch: what it is for, its first nonce, and how many there are.
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
        let count = self.pace.nonces(scan.upper()).min(last - first + 1);
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
        self.pace.learn(count, begun, Instant::now());
        let found = match found {
            Some(found) => found,
            None => kernel.scan(&scan, first, count)?,
        };
        self.hashes.fetch_add(count.into(), Ordering::Relaxed);
        let Purpose { connection, mut share } = purpose;
        for nonce in found {
            share.nonce = nonce;
            // The client counts what becomes of it.
            drop(self.shares.submit(connection, share.clone()));
        }
        Ok(())
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the driver failed")
}

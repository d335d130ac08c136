//! The engine: a supervisor of the memory, and threads that hash.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use daylight_stratum::client::{Offer, Shares};
use daylight_stratum::monero::{Share, Work};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::job::{Part, UnsupportedJob, seed};
use crate::worker::Worker;
use crate::{Error, Memory, Options, Pages, Ready};

/// Hashes a client's work, and submits the shares to it.
#[derive(Debug)]
pub struct Engine {
    stop: Arc<watch::Sender<bool>>,
    state: watch::Receiver<State>,
    pages: watch::Receiver<Pages>,
    hashes: Arc<[AtomicU64]>,
    supervisor: Option<JoinHandle<()>>,
}

/// Source of the work: `Client::work`.
pub type Feed = watch::Receiver<Option<Arc<Offer<Work>>>>;

/// State of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No work has arrived so far.
    Waiting,
    /// The memory is being filled for the work's seed.
    Preparing {
        /// Share of the dataset that is done. The library reports none for a cache, which counts as 0.
        percent: u8,
    },
    /// The memory is ready, and all work for it is hashed.
    Hashing,
    /// The work cannot be hashed. Other work may be possible.
    Refused(UnsupportedJob),
    /// The engine has failed for good.
    Failed(Error),
    /// All threads have ended.
    Ended,
}

impl Engine {
    /// Starts the supervisor, which fills the memory once there is work and then starts the threads.
    /// Must be called within a runtime, which does none of the hashing.
    pub fn start(options: Options, work: &Feed, shares: &Shares<Share>) -> Result<Self, Error> {
        let memory = Memory::new(options)?;
        let stop = Arc::new(watch::channel(false).0);
        let (state, state_seen) = watch::channel(State::Waiting);
        let (pages, pages_seen) = watch::channel(memory.pages().clone());
        let hashes: Arc<[_]> = (0..options.threads.get()).map(|_| AtomicU64::new(0)).collect();
        let supervisor = Supervisor {
            threads: options.threads,
            work: work.clone(),
            shares: shares.clone(),
            stop: Arc::clone(&stop),
            state,
            pages,
            hashes: Arc::clone(&hashes),
            runtime: Handle::current(),
        };
        let supervisor = thread::Builder::new()
            .name("randomx".into())
            .spawn(move || supervisor.run(memory))
            .map_err(|error| Error::thread(&error))?;
        Ok(Self {
            stop,
            state: state_seen,
            pages: pages_seen,
            hashes,
            supervisor: Some(supervisor),
        })
    }

    /// Returns the state.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Returns the memory's pages; until it is allocated, those that will be tried.
    pub fn pages(&self) -> Pages {
        self.pages.borrow().clone()
    }

    /// Returns the hashes computed so far, by thread.
    pub fn hashes(&self) -> Vec<u64> {
        self.hashes.iter().map(|hashes| hashes.load(Ordering::Relaxed)).collect()
    }

    /// Stops the threads after the hash that each is computing, and returns the hashes computed, by
    /// thread. Every share found is with the client then. Blocks.
    pub fn stop(mut self) -> Vec<u64> {
        self.stop.send_replace(true);
        if let Some(supervisor) = self.supervisor.take() {
            // A panic has been printed, and the count up to it is right.
            let _ = supervisor.join();
        }
        self.hashes()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Fills the memory for the work's seed, and runs the threads on it.
struct Supervisor {
    threads: NonZeroU32,
    work: Feed,
    shares: Shares<Share>,
    stop: Arc<watch::Sender<bool>>,
    state: watch::Sender<State>,
    pages: watch::Sender<Pages>,
    hashes: Arc<[AtomicU64]>,
    runtime: Handle,
}

impl Supervisor {
    fn run(mut self, mut memory: Memory) {
        let ended = self.keep(&mut memory);
        // The system takes a while to free gigabytes. A drain has no time for that.
        let _ = thread::Builder::new().name("randomx-end".into()).spawn(move || drop(memory));
        self.state.send_replace(ended.map_or_else(State::Failed, |()| State::Ended));
    }

    fn keep(&mut self, memory: &mut Memory) -> Result<(), Error> {
        while !*self.stop.borrow() && self.work.has_changed().is_ok() {
            let offer = self.work.borrow_and_update().clone();
            match offer.map(|offer| seed(&offer.work.job)) {
                Some(Ok(seed)) => {
                    let ready = memory.prepare(&seed, &|percent| self.report(&seed, percent))?;
                    if let Some(ready) = ready {
                        self.pages.send_replace(ready.pages().clone());
                        self.hash(ready, seed)?;
                    }
                    continue;
                }
                Some(Err(unsupported)) => {
                    self.state.send_replace(State::Refused(unsupported));
                }
                // Between two connections there is no work, and the next may have the same seed.
                None => {}
            }
            self.wait();
        }
        Ok(())
    }

    /// Publishes the progress, and returns whether the memory is still wanted.
    fn report(&self, wanted: &[u8; 32], percent: u8) -> ControlFlow<()> {
        self.state.send_if_modified(|state| {
            let new = State::Preparing { percent };
            std::mem::replace(state, new.clone()) != new
        });
        let other = || {
            let offer = self.work.borrow();
            offer.as_ref().is_some_and(|offer| seed(&offer.work.job).as_ref() != Ok(wanted))
        };
        match *self.stop.borrow() || self.work.has_changed().is_err() || other() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Runs the threads until they have to stop, or there is work that needs other memory.
    fn hash(&self, ready: Ready<'_>, seed: [u8; 32]) -> Result<(), Error> {
        let threads = self.threads.get();
        // All of them before the first thread: one that fails later would leave the others hashing.
        let hashers = (0..threads).map(|_| ready.hasher()).collect::<Result<Vec<_>, _>>()?;
        thread::scope(|scope| {
            for (index, (hasher, hashes)) in (0..).zip(hashers.into_iter().zip(&*self.hashes)) {
                let worker = Worker {
                    seed,
                    part: Part { thread: index, of: threads },
                    begun: None,
                    work: self.work.clone(),
                    stop: self.stop.subscribe(),
                    shares: self.shares.clone(),
                    hashes,
                    runtime: self.runtime.clone(),
                };
                let thread = thread::Builder::new().name(format!("randomx-{index}"));
                if let Err(error) = thread.spawn_scoped(scope, move || worker.run(hasher)) {
                    self.stop.send_replace(true);
                    return Err(Error::thread(&error));
                }
            }
            self.state.send_replace(State::Hashing);
            Ok(())
        })
    }

    /// Waits for other work, or the end.
    fn wait(&mut self) {
        let mut stop = self.stop.subscribe();
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.work.changed() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

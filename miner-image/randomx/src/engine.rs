//! Threads that hash.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use daylight_stratum::client::{Offer, Shares};
use daylight_stratum::monero::{Share, Work};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::job::{Refusal, nonces, seed};
use crate::lane::Lane;
use crate::{Error, Memory, Options, Pages, Ready};

/// Hashes what a client is offered, and gives it the shares.
#[derive(Debug)]
pub struct Engine {
    stop: Arc<watch::Sender<bool>>,
    state: watch::Receiver<State>,
    pages: watch::Receiver<Pages>,
    hashes: Arc<[AtomicU64]>,
    keeper: Option<JoinHandle<()>>,
}

/// Where the work comes from: `Client::work`.
pub type Feed = watch::Receiver<Option<Arc<Offer<Work>>>>;

/// How far an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No work came yet.
    Waiting,
    /// The memory that the work asks for is being made.
    Preparing {
        /// How much of the dataset is done. Of a cache that cannot be told.
        percent: u8,
    },
    /// The memory is made: whatever work there is for it is hashed.
    Hashing,
    /// The work cannot be hashed; other work may be.
    Refused(Refusal),
    /// There will be no hashing.
    Failed(Error),
    /// All threads have ended.
    Ended,
}

impl Engine {
    /// Starts to make the memory once there is work, then as many threads as wanted. Has to be
    /// called within a runtime, which does none of the hashing.
    pub fn start(options: Options, work: &Feed, shares: &Shares<Share>) -> Result<Self, Error> {
        let memory = Memory::new(options)?;
        let stop = Arc::new(watch::channel(false).0);
        let (state, state_seen) = watch::channel(State::Waiting);
        let (pages, pages_seen) = watch::channel(memory.pages().clone());
        let hashes: Arc<[_]> = (0..options.threads.get()).map(|_| AtomicU64::new(0)).collect();
        let keeper = Keeper {
            threads: options.threads,
            work: work.clone(),
            shares: shares.clone(),
            stop: Arc::clone(&stop),
            state,
            pages,
            hashes: Arc::clone(&hashes),
            runtime: Handle::current(),
        };
        let keeper = thread::Builder::new()
            .name("randomx".into())
            .spawn(move || keeper.run(memory))
            .map_err(|error| Error::thread(&error))?;
        Ok(Self { stop, state: state_seen, pages: pages_seen, hashes, keeper: Some(keeper) })
    }

    /// How far it is.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// The pages that the memory is on; before it is made, those that will be tried.
    pub fn pages(&self) -> Pages {
        self.pages.borrow().clone()
    }

    /// Hashes computed so far, by thread.
    pub fn hashes(&self) -> Vec<u64> {
        self.hashes.iter().map(|hashes| hashes.load(Ordering::Relaxed)).collect()
    }

    /// Ends the threads, after the hash that each is at: what they found is with the client then.
    /// Gives the hashes computed, by thread. Blocks.
    pub fn stop(mut self) -> Vec<u64> {
        self.stop.send_replace(true);
        if let Some(keeper) = self.keeper.take() {
            // A thread that panicked has said so; what it counted stands.
            let _ = keeper.join();
        }
        self.hashes()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Keeps the memory as the work wants it, and the threads on it.
struct Keeper {
    threads: NonZeroU32,
    work: Feed,
    shares: Shares<Share>,
    stop: Arc<watch::Sender<bool>>,
    state: watch::Sender<State>,
    pages: watch::Sender<Pages>,
    hashes: Arc<[AtomicU64]>,
    runtime: Handle,
}

impl Keeper {
    fn run(mut self, mut memory: Memory) {
        let ended = self.keep(&mut memory);
        // To give back gigabytes takes the system a while, which nobody needs to wait for.
        let _ = thread::Builder::new().name("randomx-end".into()).spawn(move || drop(memory));
        self.state.send_replace(ended.map_or_else(State::Failed, |()| State::Ended));
    }

    fn keep(&mut self, memory: &mut Memory) -> Result<(), Error> {
        while !*self.stop.borrow() && self.work.has_changed().is_ok() {
            let offer = self.work.borrow_and_update().clone();
            match offer.map(|offer| seed(&offer.work.job)) {
                Some(Ok(seed)) => {
                    let ready = memory.prepare(&seed, &|percent| self.prepare(&seed, percent))?;
                    if let Some(ready) = ready {
                        self.pages.send_replace(ready.pages().clone());
                        self.hash(ready, seed)?;
                    }
                    continue;
                }
                Some(Err(refusal)) => {
                    self.state.send_replace(State::Refused(refusal));
                }
                // What was offered before may come again.
                None => {}
            }
            self.wait();
        }
        Ok(())
    }

    /// Says how much is done, and whether it is still wanted.
    fn prepare(&self, wanted: &[u8; 32], percent: u8) -> ControlFlow<()> {
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

    /// Lets the threads hash until they are to stop, or there is work that wants other memory.
    fn hash(&self, ready: Ready<'_>, seed: [u8; 32]) -> Result<(), Error> {
        let threads = self.threads.get();
        let hashers = (0..threads).map(|_| ready.hasher()).collect::<Result<Vec<_>, _>>()?;
        thread::scope(|scope| {
            for (index, (hasher, hashes)) in (0..).zip(hashers.into_iter().zip(&*self.hashes)) {
                let lane = Lane {
                    seed,
                    nonces: nonces(index, threads),
                    begun: None,
                    work: self.work.clone(),
                    stop: self.stop.subscribe(),
                    shares: self.shares.clone(),
                    hashes,
                    runtime: self.runtime.clone(),
                };
                let thread = thread::Builder::new().name(format!("randomx-{index}"));
                if let Err(error) = thread.spawn_scoped(scope, move || lane.run(hasher)) {
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

//! The engines that are part of the agent.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use daylight_stratum::client::{Client, Status};
use daylight_stratum::{sha256d, v1};
use tokio::time::{Instant, timeout_at};

use crate::config::{BuiltInName, Config};
use crate::figures::Figures;
use crate::pool;
use crate::secret::Secrets;

/// The hashrate is the mean over this.
const RATE_OVER: Duration = Duration::from_secs(10);

/// A run of a built-in engine: threads that hash, and the connection to the pools that they share.
pub(crate) struct BuiltIn {
    link: Link,
    hashing: Box<dyn Hashing>,
    readings: Mutex<VecDeque<(Instant, u64)>>,
}

/// The connection, in the dialect of the engine's pools.
enum Link {
    V1(Client<v1::Session>),
}

/// Threads that hash.
trait Hashing: Send + Sync {
    /// Hashes so far.
    fn hashes(&self) -> u64;

    /// Ends them. Blocks until they have handed over what they found, and gives all hashes.
    fn stop(self: Box<Self>) -> u64;
}

impl BuiltIn {
    /// Connects, and begins to hash.
    pub(crate) fn start(name: BuiltInName, config: &Config, secrets: &Secrets) -> io::Result<Self> {
        let told = pool::client(config, secrets);
        let threads = config.engine.threads;
        let threads = threads.or(thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let (link, hashing): (_, Box<dyn Hashing>) = match name {
            BuiltInName::Sha256d => {
                let client = Client::start(told);
                let kernel = sha256d::Kernel::fastest();
                let (work, shares) = (client.work(), client.shares());
                let engine = sha256d::Engine::start(threads, kernel, &work, &shares)?;
                (Link::V1(client), Box::new(engine))
            }
        };
        Ok(Self { link, hashing, readings: Mutex::default() })
    }

    /// How it stands with the pools.
    pub(crate) fn pools(&self) -> Status {
        match &self.link {
            Link::V1(client) => client.status().borrow().clone(),
        }
    }

    /// What it is doing.
    pub(crate) fn figures(&self) -> Figures {
        let (now, hashes) = (Instant::now(), self.hashing.hashes());
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_back((now, hashes));
        while readings.get(1).is_some_and(|(at, _)| now - *at > RATE_OVER) {
            readings.pop_front();
        }
        let rate = readings
            .front()
            .filter(|(at, _)| *at < now)
            .map_or(0.0, |(at, before)| (hashes - before) as f64 / (now - *at).as_secs_f64());
        let figures = Figures {
            hashrate: Some(rate),
            hashes: Some(hashes as f64),
            difficulty: self.link.difficulty(),
            ..Figures::default()
        };
        pool::seen(&self.pools(), figures)
    }

    /// Stops to hash, sends what was found, waits for the pool's word and disconnects, all by
    /// `deadline`. Gives the last figures, and whether the threads had stopped by then.
    pub(crate) async fn drain(self, deadline: Instant) -> (Figures, bool) {
        let before = self.figures();
        let hashing = self.hashing;
        let stopped = timeout_at(deadline, tokio::task::spawn_blocking(|| hashing.stop())).await;
        let (hashes, stopped) = match stopped {
            Ok(Ok(hashes)) => (Some(hashes as f64), true),
            // A panic is no reason to stay.
            Ok(Err(_)) => (before.hashes, true),
            Err(_) => (before.hashes, false),
        };
        let left = deadline - Instant::now();
        let status = match self.link {
            Link::V1(client) => client.drain(left).await,
        };
        (pool::seen(&status, Figures { hashes, ..before }), stopped)
    }
}

impl Link {
    /// How rare shares have to be.
    fn difficulty(&self) -> Option<f64> {
        match self {
            Self::V1(client) => {
                client.work().borrow().as_ref().map(|offer| offer.work.difficulty.get())
            }
        }
    }
}

impl Hashing for sha256d::Engine {
    fn hashes(&self) -> u64 {
        Self::hashes(self).iter().sum()
    }

    fn stop(self: Box<Self>) -> u64 {
        Self::stop(*self).iter().sum()
    }
}

//! Engines that are part of the agent.

#[cfg(feature = "gpu")]
mod gpu;
mod name;
#[cfg(feature = "randomx")]
mod randomx;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use daylight_stratum::client::{self, Client, Status};
#[cfg(feature = "randomx")]
use daylight_stratum::monero;
use daylight_stratum::{sha256d, v1};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::figures::{Device, Figures};
use crate::pool;
use crate::secret::Secrets;
pub(crate) use name::BuiltInName;

/// Time over which the hashrate is averaged.
const RATE_OVER: Duration = Duration::from_secs(10);

/// A run of a built-in engine: threads that hash, and the connection to the pools that they share.
pub(crate) struct BuiltIn {
    link: Link,
    hashing: Box<dyn Hashing>,
    readings: Mutex<VecDeque<(Instant, Vec<u64>)>>,
}

/// Connection to the pools, in their protocol.
enum Link {
    V1(Client<v1::Session>),
    #[cfg(feature = "randomx")]
    Monero(Client<monero::Session>),
}

/// Threads that hash.
trait Hashing: Send + Sync {
    /// Returns the hashes so far, by device. An engine on processors is one device.
    fn hashes(&self) -> Vec<u64>;

    /// Returns the devices' names, for an engine that may have several.
    fn devices(&self) -> &[String] {
        &[]
    }

    /// Returns why the engine has stopped hashing for good.
    fn failure(&self) -> Option<EngineFailure> {
        None
    }

    /// Returns a remark on its state for the log.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Stops them. Blocks until they have handed over their last shares; returns all hashes.
    fn stop(self: Box<Self>) -> Vec<u64>;
}

/// Reason that a built-in engine stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineFailure {
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only GPUs are lost"))]
    DeviceLost(String),
    #[cfg_attr(not(feature = "randomx"), expect(dead_code, reason = "only RandomX can fail"))]
    Other(String),
}

impl BuiltIn {
    /// Connects to the pools, and starts to hash.
    ///
    /// # Errors
    ///
    /// One sentence: why it cannot.
    pub(crate) fn start(
        name: BuiltInName,
        config: &Config,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let client = pool::client(config, secrets);
        let (link, hashing) = match name {
            BuiltInName::Sha256d => sha256d(config, client)?,
            #[cfg(feature = "randomx")]
            BuiltInName::Randomx => randomx::start(config, client)?,
            #[cfg(feature = "gpu")]
            BuiltInName::Sha256dGpu => gpu::start(config, client)?,
            #[cfg(not(all(feature = "randomx", feature = "gpu")))]
            _ => return Err(format!("this agent was built without {}", config.engine.name)),
        };
        let first = (Instant::now(), hashing.hashes());
        Ok(Self { link, hashing, readings: Mutex::new(VecDeque::from([first])) })
    }

    /// Returns the state of the connection to the pools.
    pub(crate) fn pools(&self) -> Status {
        match &self.link {
            Link::V1(client) => client.status().borrow().clone(),
            #[cfg(feature = "randomx")]
            Link::Monero(client) => client.status().borrow().clone(),
        }
    }

    /// Returns why the engine has stopped hashing for good.
    pub(crate) fn failure(&self) -> Option<EngineFailure> {
        self.hashing.failure()
    }

    /// Returns a remark on its state for the log.
    pub(crate) fn remark(&self) -> Option<String> {
        self.hashing.remark()
    }

    /// Returns its figures now.
    pub(crate) fn figures(&self) -> Figures {
        let (now, hashes) = (Instant::now(), self.hashing.hashes());
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_back((now, hashes.clone()));
        // Keeps one reading that is older than the window, so that the mean spans the whole of it.
        while readings.get(1).is_some_and(|(at, _)| now - *at > RATE_OVER) {
            readings.pop_front();
        }
        let rates: Vec<f64> = match readings.front().filter(|(at, _)| *at < now) {
            Some((at, before)) => {
                let seconds = (now - *at).as_secs_f64();
                let more = hashes.iter().zip(before).map(|(now, before)| now - before);
                more.map(|more| more as f64 / seconds).collect()
            }
            None => vec![0.0; hashes.len()],
        };
        let device = |(index, name): (usize, &String)| Device {
            index: index as u64,
            name: Some(name.clone()),
            hashrate: rates.get(index).copied(),
            ..Device::default()
        };
        let figures = Figures {
            hashrate: Some(rates.iter().sum()),
            hashes: Some(hashes.iter().sum::<u64>() as f64),
            difficulty: self.link.difficulty(),
            devices: self.hashing.devices().iter().enumerate().map(device).collect(),
            ..Figures::default()
        };
        figures.with_pool(&self.pools())
    }

    /// Stops hashing, sends the last shares, waits for the pool's answers and disconnects, all by
    /// `deadline`. Returns the last figures, and whether the threads had stopped by then.
    pub(crate) async fn drain(self, deadline: Instant) -> (Figures, bool) {
        let before = self.figures();
        let hashing = self.hashing;
        let stopped = timeout_at(deadline, tokio::task::spawn_blocking(|| hashing.stop())).await;
        let (hashes, stopped) = match stopped {
            Ok(Ok(hashes)) => (Some(hashes.iter().sum::<u64>() as f64), true),
            // The threads panicked, so that they have stopped.
            Ok(Err(_)) => (before.hashes, true),
            Err(_) => (before.hashes, false),
        };
        let left = deadline - Instant::now();
        let status = match self.link {
            Link::V1(client) => client.drain(left).await,
            #[cfg(feature = "randomx")]
            Link::Monero(client) => client.drain(left).await,
        };
        (Figures { hashes, ..before }.with_pool(&status), stopped)
    }
}

impl Link {
    /// Returns the difficulty of a share.
    fn difficulty(&self) -> Option<f64> {
        match self {
            Self::V1(client) => {
                client.work().borrow().as_ref().map(|offer| offer.work.difficulty.get())
            }
            #[cfg(feature = "randomx")]
            Self::Monero(client) => {
                let work = client.work();
                let offer = work.borrow();
                offer.as_ref().map(|offer| offer.work.job.target().expected_hashes() as f64)
            }
        }
    }
}

/// A connection and the threads on it, or one sentence: why there are none.
type Started = Result<(Link, Box<dyn Hashing>), String>;

/// Returns the configured number of threads, or one per processor.
fn threads(config: &Config) -> NonZeroUsize {
    let configured = config.engine.threads;
    configured.or(thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

fn sha256d(config: &Config, client: client::Config) -> Started {
    let client = Client::start(client);
    let kernel = sha256d::Kernel::fastest();
    let (work, shares) = (client.work(), client.shares());
    let engine = sha256d::Engine::start(threads(config), kernel, &work, &shares)
        .map_err(|error| error.to_string())?;
    Ok((Link::V1(client), Box::new(engine)))
}

impl Hashing for sha256d::Engine {
    fn hashes(&self) -> Vec<u64> {
        vec![Self::hashes(self).iter().sum()]
    }

    fn stop(self: Box<Self>) -> Vec<u64> {
        Self::stop(*self)
    }
}

//! Which pool is tried next, and when: shared by all clients of a miner.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Fault, Timing};

/// What the clients of a miner have learned of its pools. Engines that come and go behind the proxy
/// have a client each, and must not start from the beginning each time: pools ban who logs in too often.
#[derive(Debug)]
pub(crate) struct Route {
    pools: usize,
    known: Mutex<Known>,
    lookups: Lookups,
}

#[derive(Debug)]
struct Known {
    /// The pool to try next.
    next: usize,
    /// Sessions in a row that were of no use.
    failures: usize,
    /// No pool is tried before.
    resume: Option<Instant>,
    /// Increases with each result that changed `next`. An attempt that began earlier says nothing new.
    turn: u64,
    /// Whether a pool ever accepted the login.
    ever_logged_in: bool,
    /// By pool: how often in a row it refused the login.
    refusals: Vec<u32>,
    /// By pool: why the last session or login there ended, until one succeeds.
    faults: Vec<Option<Fault>>,
}

/// Permission to try a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) pool: usize,
    /// When to begin; at once if there is none.
    pub(super) from: Option<Instant>,
    turn: u64,
}

/// Where the next attempt leads after one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Next,
    /// The same pool, which only has to be logged in at again.
    Same,
}

/// Times in a row that each pool refuses the login until that counts as final. A pool that is being
/// restarted may refuse a login once or twice.
const FINAL_REFUSALS: u32 = 3;

impl Route {
    pub(crate) fn new(pools: usize) -> Self {
        Self {
            pools,
            known: Mutex::new(Known {
                next: 0,
                failures: 0,
                resume: None,
                turn: 0,
                ever_logged_in: false,
                refusals: vec![0; pools],
                faults: vec![None; pools],
            }),
            lookups: Lookups::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attempt(&self) -> Attempt {
        let known = self.known();
        let from = known.resume.filter(|resume| *resume > Instant::now());
        Attempt { pool: known.next, from, turn: known.turn }
    }

    /// Notes that a pool accepted the login and gave work, so that others may log in there at once.
    /// Returns the attempt as which the session counts.
    pub(super) fn logged_in(&self, pool: usize) -> Attempt {
        let mut known = self.known();
        known.ever_logged_in = true;
        known.refusals.fill(0);
        known.faults[pool] = None;
        known.next = pool;
        known.resume = None;
        known.turn += 1;
        Attempt { pool, from: None, turn: known.turn }
    }

    /// Notes that a session lasted and was of use; its end is no reason to wait.
    pub(super) fn was_useful(&self, then: Then, pool: usize) {
        let mut known = self.known();
        known.failures = 0;
        known.next = if then == Then::Same { pool } else { 0 };
        known.resume = None;
        known.turn += 1;
    }

    /// Notes a failed login, or a session that was of no use. What several clients meet at the same
    /// time counts once.
    pub(super) fn failed(&self, attempt: Attempt, pool: usize, then: Then, timing: &Timing) {
        let mut known = self.known();
        if attempt.turn != known.turn {
            return;
        }
        known.turn += 1;
        known.failures += 1;
        known.next = if then == Then::Same { pool } else { (pool + 1) % self.pools };
        if then == Then::Same || known.failures.is_multiple_of(self.pools) {
            let pause = backoff(known.failures.div_ceil(self.pools), timing);
            known.resume = Some(Instant::now() + pause);
        }
    }

    /// Notes why a pool was left, or not reached.
    pub(super) fn note(&self, pool: usize, fault: Fault) {
        let mut known = self.known();
        let refused = matches!(fault, Fault::Refused { .. });
        known.refusals[pool] = if refused { known.refusals[pool] + 1 } else { 0 };
        known.faults[pool] = Some(fault);
    }

    /// The pools' faults that still stand, in the order of the pools.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.known().faults.iter().flatten().cloned().collect()
    }

    /// Why it is useless to go on: each pool refused the login, several times in a row, and none ever
    /// accepted it.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let known = self.known();
        let final_ = known.refusals.iter().all(|times| *times >= FINAL_REFUSALS);
        (final_ && !known.ever_logged_in)
            .then(|| known.faults.iter().flatten().next_back().cloned())
            .flatten()
    }

    /// Looks a host up.
    pub(super) async fn look_up(&self, host: &str) -> Result<Vec<SocketAddr>, String> {
        self.lookups.look_up(host).await
    }
}

/// Returns the pause before the next round. It doubles each time, and is random in its upper half,
/// so that a pool that returns does not get all its miners at once.
fn backoff(round: usize, timing: &Timing) -> Duration {
    let doubled = 2_u32.saturating_pow(u32::try_from(round.max(1) - 1).unwrap_or(u32::MAX));
    let longest = timing.first_backoff.saturating_mul(doubled).min(timing.longest_backoff);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

type Addresses = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, String>>>;

/// Look-ups of names that are under way. The system's resolver blocks, for a minute where its
/// servers do not answer, and nothing can stop it: it gets threads of its own, one for a name, which
/// keep neither an exit nor any other work waiting.
#[derive(Debug, Default)]
struct Lookups(Mutex<HashMap<String, Addresses>>);

/// Stack of a thread that looks a name up. Small, since the agent's memory is bounded.
const STACK: usize = 512 << 10;

impl Lookups {
    async fn look_up(&self, host: &str) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, 0).into()]);
        }
        let addresses = {
            let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.retain(|_, addresses| addresses.peek().is_none());
            let new = || resolve(host.to_owned());
            under_way.entry(host.to_owned()).or_insert_with(new).clone()
        };
        addresses.await
    }
}

fn resolve(host: String) -> Addresses {
    let (found, addresses) = oneshot::channel();
    let look_up = move || {
        let result = (&*host, 0).to_socket_addrs();
        let _ = found.send(result.map(Iterator::collect).map_err(|error| error.to_string()));
    };
    let thread =
        std::thread::Builder::new().name("look-up".into()).stack_size(STACK).spawn(look_up);
    let failed = thread.err().map(|error| error.to_string());
    let result = async move {
        match failed {
            Some(error) => Err(error),
            None => addresses.await.unwrap_or_else(|_| Err("the look-up ended".into())),
        }
    };
    result.boxed().shared()
}

//! A pool that misbehaves at random.

mod connection;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::books::Books;
use super::random::Random;
use super::shapes::Dialect;
use connection::Connection;

/// Phase of a soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Misbehaving,
    /// The pool behaves, and there is work.
    Calm,
    /// No more shares are wanted, so that both sides can finish their books.
    Quiet,
}

/// A pool at two addresses, with one set of books.
pub(super) struct Pool {
    dialect: Dialect,
    seed: u64,
    /// Whether shares are checked: those of a stand-in are made up.
    verifies: bool,
    /// Bits of the difficulty, which follows the rate of shares.
    difficulty: AtomicU64,
    connections: AtomicU64,
    jobs: AtomicU64,
    phase: watch::Receiver<Phase>,
    books: Mutex<Books>,
}

/// The first word of names of jobs for which no shares are wanted.
pub(super) const QUIET: &str = "quiet";

/// Difficulty that no engine of a test reaches.
const UNREACHABLE: f64 = 1e12;

/// Words in which the pool repeats the login.
pub(super) const WALLET: &str = "49wallet";

impl Pool {
    pub(super) fn new(
        dialect: Dialect,
        seed: u64,
        verifies: bool,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            dialect,
            seed,
            verifies,
            difficulty: AtomicU64::new(0.002_f64.to_bits()),
            connections: AtomicU64::new(0),
            jobs: AtomicU64::new(0),
            phase,
            books: Mutex::default(),
        }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn note(&self, misbehaviour: &'static str) {
        *self.books().misbehaved.entry(misbehaviour).or_default() += 1;
    }

    /// Serves a port for ever, with restarts between: then nothing listens, and all connections end.
    pub(super) async fn serve(self: Arc<Self>, first: TcpListener, user: u64) {
        let port = first.local_addr().expect("an address").port();
        let mut random = Random::new(self.seed, user);
        let mut listener = Some(first);
        loop {
            let here = match listener.take() {
                Some(listener) => listener,
                None => TcpListener::bind(("127.0.0.1", port)).await.expect("the same port"),
            };
            let (up, ended) = watch::channel(true);
            let restart = Instant::now() + random.between(120_000, 480_000);
            let mut phase = self.phase.clone();
            loop {
                let stream = select! {
                    accepted = here.accept() => accepted.expect("a connection").0,
                    () = sleep_until(restart), if self.phase() == Phase::Misbehaving => break,
                    Ok(()) = phase.changed() => continue,
                };
                tokio::spawn(Connection::serve(Arc::clone(&self), stream, ended.clone()));
            }
            drop(here);
            self.note("restart");
            up.send_replace(false);
            let calm = async { phase.wait_for(|phase| *phase != Phase::Misbehaving).await.is_ok() };
            let _ = timeout(random.between(1_000, 40_000), calm).await;
        }
    }

    fn difficulty(&self) -> f64 {
        match self.phase() {
            Phase::Quiet => UNREACHABLE,
            _ => f64::from_bits(self.difficulty.load(Ordering::Relaxed)),
        }
    }

    /// Doubles or halves the difficulty, for about two shares a second.
    fn adjust(&self, shares: u64, over: Duration) {
        let rate = shares as f64 / over.as_secs_f64().max(0.1);
        let now = f64::from_bits(self.difficulty.load(Ordering::Relaxed));
        let next = match rate {
            _ if rate > 4.0 => now * 2.0,
            _ if rate < 1.0 && over > Duration::from_secs(3) => now / 2.0,
            _ => now,
        };
        self.difficulty.store(next.clamp(1e-5, 10.0).to_bits(), Ordering::Relaxed);
    }
}

//! The lease: the engine may work while the lease is renewed, by touching a file or by requests.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use crate::config;
use crate::status::Shared;

/// A lease that is being watched.
///
/// A file is renewed by a new modification time. Its age counts on the monotonic clock from the moment
/// at which the agent saw the change, so that a date in the future buys no time.
pub(crate) struct Lease {
    config: config::Lease,
    modified: Option<SystemTime>,
    renewed: Instant,
}

impl Lease {
    /// Starts to watch. A file that is too old already has lapsed; one that does not exist yet counts
    /// as renewed now.
    pub(crate) fn new(config: config::Lease) -> Self {
        let now = Instant::now();
        let modified = modified(&config);
        let age = modified.map_or(Duration::ZERO, |at| at.elapsed().unwrap_or_default());
        Self { config, modified, renewed: now.checked_sub(age).unwrap_or(now) }
    }

    /// Time since the last renewal.
    fn age(&mut self, shared: &Shared) -> Duration {
        if let Some(at) = shared.get().lease_renewed.take() {
            self.renewed = at;
        }
        let modified = modified(&self.config);
        if modified.is_some() && modified != self.modified {
            self.modified = modified;
            self.renewed = Instant::now();
        }
        self.renewed.elapsed()
    }

    /// Waits until the lease has lapsed. Publishes its age in `shared` every second.
    pub(crate) async fn lapse(&mut self, shared: &Shared) {
        loop {
            let age = self.age(shared);
            shared.get().lease_age = Some(age);
            let left = self.config.lapses_after.saturating_sub(age);
            if left.is_zero() {
                return;
            }
            sleep(left.min(Duration::from_secs(1))).await;
        }
    }
}

fn modified(config: &config::Lease) -> Option<SystemTime> {
    std::fs::metadata(config.file.as_ref()?).and_then(|file| file.modified()).ok()
}

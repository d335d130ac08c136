//! The lease: as long as somebody renews it, by touching a file or by a request, the engine may work.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use crate::config;
use crate::status::Shared;

/// Watches a lease. The renewal of a file is a new modification time; how long ago the last one was
/// seen is taken from a clock that nobody can set.
pub(crate) struct Lease {
    config: config::Lease,
    modified: Option<SystemTime>,
    renewed: Instant,
}

impl Lease {
    /// Starts to watch. A file that is already older than it may be has lapsed; one that is not
    /// there yet may take its time to come.
    pub(crate) fn new(config: config::Lease) -> Self {
        let now = Instant::now();
        let modified = modified(&config);
        let age = modified.map_or(Duration::ZERO, |at| at.elapsed().unwrap_or_default());
        Self { config, modified, renewed: now.checked_sub(age).unwrap_or(now) }
    }

    /// How long ago it was renewed.
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

    /// Waits until it has lapsed, and says in `shared` how old it is.
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

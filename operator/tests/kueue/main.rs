//! Daylight with a real Kueue. Where Kueue cannot be built, the tests are ignored and say why.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod jobs;
mod miners;
mod queues;
mod topology;

use std::ops::{Deref, DerefMut};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use daylight_test_site::{Site, install};
use daylight_testbed::trials::{Fixture, Outcome, Shared, Trial, Trials, caught};
use daylight_testbed::{ControlPlane, Error, Options, build_kueue};

fn main() -> ExitCode {
    Trials::registered()
        .after(|| build_kueue().map(drop))
        .skipping(|error| error.downcast_ref().is_some_and(Error::is_missing_go))
        .run()
}

/// A site on a control plane with Kueue.
pub(crate) struct KueueSite(Site);

impl Deref for KueueSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.0
    }
}

impl DerefMut for KueueSite {
    fn deref_mut(&mut self) -> &mut Site {
        &mut self.0
    }
}

static CONTROL_PLANE: Shared<Arc<ControlPlane>> = Shared::new(|| {
    Box::pin(async {
        let control_plane = ControlPlane::start(Options::full().with_kueue()).await?;
        install(&control_plane).await;
        Ok(Arc::new(control_plane))
    })
});

impl Fixture for KueueSite {
    async fn lend(trial: &Trial, test: impl AsyncFnOnce(&mut Self) -> Outcome) -> Outcome {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let on = async |control_plane: &mut Arc<ControlPlane>| {
            let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
            let mut site = Self(Site::new(control_plane.clone(), &trial.name(), number).await);
            let outcome = caught(test(&mut site)).await;
            if outcome.is_err() {
                let logs = control_plane.directory().join("logs");
                daylight_test_site::program::show_logs(&logs, "kueue");
            }
            site.0.end(outcome).await
        };
        CONTROL_PLANE.lend(on).await
    }
}

//! Tests that share a control plane, which is started for the first of them.

use std::pin::Pin;
use std::sync::Arc;

use daylight_testbed::{ControlPlane, Error};
use libtest_mimic::{Completion, Failed, Trial};
use tokio::runtime::Handle;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
/// Starts the control plane that is shared.
pub(crate) type Start = fn() -> Pin<Box<dyn Future<Output = Outcome<ControlPlane>>>>;

pub(crate) struct World {
    runtime: Handle,
    start: Start,
    control_plane: Arc<tokio::sync::Mutex<Option<ControlPlane>>>,
    /// Whether the tests can run here. [`Error::NoRealNode`] has them ignored.
    possible: Arc<Result<(), Error>>,
}

impl World {
    pub(crate) fn new(runtime: Handle, possible: Result<(), Error>, start: Start) -> Self {
        Self { runtime, start, control_plane: Arc::default(), possible: Arc::new(possible) }
    }

    /// A test on the shared control plane.
    pub(crate) fn test(
        &self,
        name: &str,
        test: impl AsyncFn(&ControlPlane) -> Outcome + Send + 'static,
    ) -> Trial {
        let (shared, start) = (self.control_plane.clone(), self.start);
        self.trial(name, async move || {
            let mut shared = shared.lock().await;
            let control_plane = match &mut *shared {
                Some(started) => started,
                none => none.insert(start().await?),
            };
            test(control_plane).await
        })
    }

    /// A test without the shared control plane, which ends before it.
    pub(crate) fn alone(
        &self,
        name: &str,
        test: impl AsyncFnOnce() -> Outcome + Send + 'static,
    ) -> Trial {
        let shared = self.control_plane.clone();
        self.trial(name, async move || {
            if let Some(control_plane) = shared.lock().await.take() {
                control_plane.stop().await;
            }
            test().await
        })
    }

    fn trial(&self, name: &str, test: impl AsyncFnOnce() -> Outcome + Send + 'static) -> Trial {
        let (runtime, possible) = (self.runtime.clone(), self.possible.clone());
        Trial::ignorable_test(name, move || match &*possible {
            Err(why @ Error::NoRealNode { .. }) => Ok(Completion::ignored_with(why)),
            Err(error) => Err(Failed::from(error)),
            Ok(()) => match runtime.block_on(test()) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(error.to_string())),
            },
        })
    }
}

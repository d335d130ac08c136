//! End-to-end tests on a real Kubernetes control plane with simulated nodes. Each is named after
//! the promise it holds.
//!
//! All share one control plane and run one after the other: a test that stops the controller
//! must not stop it for others. `cargo test -p daylight --test e2e -- PART_OF_A_NAME` runs some.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod caps;
mod daylight;
mod filling;
mod jobs;
mod leadership;
mod observer;
mod reclaim;
mod refusals;
mod registration;
mod site;
mod upkeep;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};

use daylight_testbed::{ControlPlane, Options};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use site::Site;

/// Runs on a site of its own.
type Test = for<'a> fn(&'a mut Site) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|site| Box::pin($module::$name(site))) as Test,
        )),*]
    };
}

struct World {
    runtime: Runtime,
    control_plane: OnceLock<Result<Arc<ControlPlane>, String>>,
    count: Mutex<u32>,
}

impl World {
    fn control_plane(&self) -> Result<Arc<ControlPlane>, String> {
        let start = || {
            let started = self.runtime.block_on(async {
                let control_plane = ControlPlane::start(Options::full()).await?;
                site::install(&control_plane).await;
                Ok::<_, daylight_testbed::Error>(Arc::new(control_plane))
            });
            started.map_err(|error| error.to_string())
        };
        self.control_plane.get_or_init(start).clone()
    }

    fn run(&self, name: &'static str, test: Test) -> Result<(), Failed> {
        let control_plane = self.control_plane()?;
        // Also a test that failed leaves room for the next.
        let mut count = self.count.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *count += 1;
        let number = *count;
        self.runtime.block_on(async move {
            let logs = control_plane.directory().join("logs");
            let mut site = Site::new(control_plane, name, number).await;
            let outcome = tokio::spawn(async move {
                test(&mut site).await;
                site
            })
            .await;
            match outcome {
                Ok(site) => {
                    site.end().await;
                    Ok(())
                }
                Err(error) => {
                    daylight::show_logs(&logs, number);
                    Err(panic_text(error).into())
                }
            }
        })
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".into()),
        Err(error) => error.to_string(),
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let world = Arc::new(World {
        runtime: Runtime::new().unwrap(),
        control_plane: OnceLock::new(),
        count: Mutex::new(0),
    });
    let tests = tests![filling::idle_gpus_are_filled,];
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let world = world.clone();
            Trial::test(name, move || world.run(name, test))
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    conclusion.exit_code()
}

//! Admission, access and the charts, on a real control plane, as ordinary users and service
//! accounts with no more rights than their roles give.
//!
//! All tests share one control plane and one installation of the charts, and run one after the
//! other. `cargo test -p daylight --test admission -- PART_OF_A_NAME` runs some.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod admitted;
mod budget;
mod charts;
mod cluster;
mod cost;
mod doctor;
mod manifest;
mod process;
mod refused;
mod request;
mod rights;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use cluster::Cluster;

type Test = fn(Arc<Cluster>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|cluster| Box::pin(async move { $module::$name(&cluster).await })) as Test,
        )),*]
    };
}

struct World {
    runtime: Runtime,
    cluster: OnceLock<Result<Arc<Cluster>, String>>,
}

impl World {
    fn run(&self, test: Test) -> Result<(), Failed> {
        let start = || {
            let started = self
                .runtime
                .block_on(async { tokio::spawn(async { Arc::new(Cluster::start().await) }).await });
            started.map_err(panic_text)
        };
        let cluster = self.cluster.get_or_init(start).clone()?;
        let outcome = self.runtime.block_on(async { tokio::spawn(test(cluster)).await });
        outcome.map_err(|error| panic_text(error).into())
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
    let world = Arc::new(World { runtime: Runtime::new().unwrap(), cluster: OnceLock::new() });
    let tests = tests![
        manifest::the_plain_manifest_is_what_the_chart_gives,
        refused::what_is_off_the_list_is_refused_or_reported,
        // Before others leave pods that take its nodes' GPUs.
        rights::every_right_of_controller_and_auditor_is_used,
        admitted::with_the_lists_gone_or_spoiled_ai_goes_on_and_mining_does_not,
        admitted::every_legitimate_way_is_admitted,
        doctor::a_sound_installation_is_found_sound_and_each_spoiled_one_is_told,
        budget::the_largest_pods_keep_to_the_budget_of_every_rule,
        budget::nothing_passes_for_want_of_budget,
        budget::the_largest_pods_change_within_budget,
        charts::values_that_make_no_sense_are_refused_with_a_sentence,
        charts::the_charts_install_upgrade_uninstall_and_install_again,
        charts::pods_that_an_uninstallation_leaves_behind_can_be_let_go,
    ];
    // Run by name, with `--ignored`, when figures are wanted.
    let measurements = tests![cost::cpu_time_of_an_admission];
    let trial = |(name, test), ignored| {
        let world = world.clone();
        Trial::test(name, move || world.run(test)).with_ignored_flag(ignored)
    };
    let trials = tests
        .into_iter()
        .map(|test| trial(test, false))
        .chain(measurements.into_iter().map(|test| trial(test, true)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

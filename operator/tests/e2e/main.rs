//! End-to-end tests on a real Kubernetes control plane with simulated nodes. Each is named after
//! the promise it holds.
//!
//! Three run at once, each on a control plane of its own: most of their time is waiting. `cargo test -p daylight --test e2e -- PART_OF_A_NAME` runs some.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod alerts;
mod caps;
mod chaos;
mod dashboards;
mod energy;
mod filling;
mod jobs;
mod leadership;
mod ledger_keys;
mod light_work;
mod metering;
mod mirror;
mod prometheus;
mod reclaim;
mod refusals;
mod registration;
mod renewal;
mod runtimes;
mod second_auditor;
mod signature;
mod silence;
mod story;
mod upkeep;
mod without_gpus;

use std::process::ExitCode;

use daylight_testbed::trials::Trials;

/// Flags of an auditor that reads exporters every second.
const EXPORTER: [&str; 6] = [
    "--exporter",
    "gpu-operator/nvidia-dcgm-exporter:9400",
    "--scrape-every",
    "1s",
    "--exporter-refresh",
    "1s",
];

fn main() -> ExitCode {
    // The longest test first, so that no other waits for it at the end.
    Trials::registered().in_order(&["story"]).at_once(3).run()
}

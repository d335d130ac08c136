//! End-to-end tests on a real Kubernetes control plane with simulated nodes. Each is named after
//! the promise it holds.
//!
//! All share one control plane and run one after the other: a test that stops the controller
//! must not stop it for others. `cargo test -p daylight --test e2e -- PART_OF_A_NAME` runs some.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod caps;
mod dashboards;
mod energy;
mod filling;
mod jobs;
mod leadership;
mod metering;
mod mirror;
mod prometheus;
mod reclaim;
mod refusals;
mod registration;
mod renewal;
mod signature;
mod upkeep;

use std::process::ExitCode;

use daylight_testbed::trials::Trials;

fn main() -> ExitCode {
    Trials::registered().run()
}

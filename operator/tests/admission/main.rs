//! Admission, access and the charts, on a real control plane, as ordinary users and service
//! accounts with no more rights than their roles give.
//!
//! Three tests run at once, each on a control plane with the charts installed, which later tests find as
//! earlier ones left it. `cargo test -p daylight --test admission -- PART_OF_A_NAME` runs some.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod admitted;
mod budget;
mod charts;
mod cluster;
mod cost;
mod doctor;
mod examples;
mod manifest;
mod process;
mod refused;
mod request;
mod rights;
mod values_page;

use std::process::ExitCode;

use daylight_testbed::trials::Trials;

fn main() -> ExitCode {
    // The rights first, before others leave pods that take their nodes' GPUs, and the charts last:
    // their tests remove what others stand on.
    let order =
        &["manifest", "refused", "rights", "examples", "admitted", "doctor", "budget", "charts"];
    Trials::registered().in_order(order).at_once(3).run()
}

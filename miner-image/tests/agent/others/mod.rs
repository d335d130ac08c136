//! Programs of others as peers of the agent, as they are published. None belongs to Daylight or comes with
//! it: each test says how to get its program, and runs only where a variable names that.
//!
//! Everything runs in a network namespace of its own, which has the loopback interface only.
//!
//! | also tried | |
//! |---|---|
//! | aiostratum-proxy 1.1 for several miners | it takes a byte of the extranonce and forwards shares without it: all are rejected, and the agent leaves after ten |
//! | merged-pooler 0.5.0 (npm) | cannot be installed: a dependency is no longer published |
//! | coin-hive-stratum 1.4.10 (npm) | serves miners by WebSocket only |
//! | stratum 0.2.15, stratum-core 0.0.2 (Python) | libraries without a pool |
//! | xmrwasp, monero-stratum, not-only-mining-pool (Go) | not served as modules |

mod engines;
mod proxies;

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use daylight_stratum::loopback::Event;

use crate::run::Run;

/// Set in the namespace.
const INSIDE: &str = "DAYLIGHT_TEST_INSIDE";

/// Limit for a program's first shares on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// Returns the program that a variable names, within a namespace. Outside, runs the test again in one,
/// and returns nothing.
fn in_a_namespace(test: &str, variable: &str) -> Option<PathBuf> {
    let program = env::var_os(variable).map(PathBuf::from);
    let program = program.unwrap_or_else(|| panic!("set {variable} to the program's path"));
    if env::var_os(INSIDE).is_some() {
        return Some(program);
    }
    let inside = "ip link set lo up && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", inside, "sh"])
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "{status}");
    None
}

/// Waits for something that may take minutes.
fn patiently(run: &mut Run, what: &str, mut is: impl FnMut(&mut Run) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is(run) {
        assert!(Instant::now() < until, "{what}: not so, the log is\n{}", run.log());
        sleep(Duration::from_millis(100));
    }
}

fn logins(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::LoggedIn(_))).count()
}

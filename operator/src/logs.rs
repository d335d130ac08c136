//! Logs: text on a terminal, JSON otherwise; `RUST_LOG` sets the level.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// The level of a command's own warnings. Libraries and watches are silent: what they fail at is the
/// command's error, with its cause.
const COMMAND: &str = "off,daylight=warn,daylight_cluster=off";

/// The level of a process that serves. kube's client logs each request that fails; its callers report
/// that once, with the consequence.
const SERVER: &str = "info,kube_client::client=off";

/// Starts logging to standard error: for a process that serves, from level INFO; for a command,
/// its own warnings.
pub fn start(serves: bool) {
    let default = if serves { SERVER } else { COMMAND };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    // A second start, as in tests, changes nothing.
    let _ = if terminal || !serves {
        logs.with_ansi(terminal).with_target(false).try_init().map_err(drop)
    } else {
        logs.json().flatten_event(true).with_target(true).try_init().map_err(drop)
    };
}

//! What the kernel knows of a process.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// State of a process at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Resident memory, in kB.
    pub(super) resident: u64,
    /// Memory that it may write to, in kB.
    pub(super) data: u64,
    pub(super) threads: u64,
    pub(super) descriptors: usize,
    /// Sockets by state: connections in both directions, and those whose other side has closed.
    pub(super) connected: usize,
    pub(super) close_wait: usize,
    /// Time until it answered a probe.
    pub(super) probe: Duration,
}

impl Sample {
    pub(super) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("an agent");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let descriptors: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("descriptors")
            .flatten()
            .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
            .collect();
        let states = socket_states();
        let sockets = descriptors.iter().filter_map(|target| {
            states.get(target.strip_prefix("socket:[")?.strip_suffix(']')?).copied()
        });
        let (mut connected, mut close_wait) = (0, 0);
        for state in sockets {
            connected += usize::from(state == 1);
            close_wait += usize::from(state == 8);
        }
        Self {
            resident: field("VmRSS:"),
            data: field("VmData:"),
            threads: field("Threads:"),
            descriptors: descriptors.len(),
            connected,
            close_wait,
            probe: Duration::ZERO,
        }
    }
}

/// States of TCP sockets, as the kernel numbers them, by inode.
fn socket_states() -> HashMap<String, u8> {
    let table = fs::read_to_string("/proc/net/tcp").expect("a table of sockets");
    let entry = |line: &str| {
        let mut fields = line.split_whitespace();
        let state = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
        Some((fields.nth(5)?.to_owned(), state))
    };
    table.lines().skip(1).filter_map(entry).collect()
}

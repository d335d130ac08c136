//! CPU time and memory of processes, from Linux' `/proc`. Elsewhere nothing is known.

use std::fs;
use std::path::Path;

use daylight_testbed::{Component, ControlPlane};

/// Clock ticks a second in `/proc`, the same on every Linux that Rust's targets know.
const TICKS: f64 = 100.0;

/// Returns the CPU seconds that a process has used so far.
fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// Returns the peak of a process's resident memory, in bytes.
pub(crate) fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Finds the process that runs this program with this argument.
pub(crate) fn process_of(program: &Path, argument: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let process: u32 = entry.file_name().to_str()?.parse().ok()?;
        if fs::read_link(entry.path().join("exe")).ok()? != program {
            return None;
        }
        let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        command.split('\0').any(|given| given == argument).then_some(process)
    })
}

/// CPU seconds by process, since some moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu(Vec<(String, f64)>);

impl Cpu {
    pub(crate) fn now(control_plane: &ControlPlane, daylight: Option<u32>) -> Self {
        let mut all = Vec::new();
        for component in Component::ALL {
            let id = control_plane.process_id(component);
            all.extend(id.and_then(cpu_seconds).map(|used| (component.to_string(), used)));
        }
        all.extend(daylight.and_then(cpu_seconds).map(|used| ("daylight".to_owned(), used)));
        // This program, which is the observer and, for one side, the client.
        all.extend(cpu_seconds(std::process::id()).map(|used| ("bench".to_owned(), used)));
        Self(all)
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        let of = |name: &str| {
            before.0.iter().find(|(known, _)| known == name).map_or(0.0, |(_, used)| *used)
        };
        Self(self.0.iter().map(|(name, used)| (name.clone(), used - of(name))).collect())
    }

    /// "kube-apiserver 41.2, etcd 9.8".
    pub(crate) fn text(&self) -> String {
        let all: Vec<_> = self.0.iter().map(|(name, used)| format!("{name} {used:.1}")).collect();
        all.join(", ")
    }
}

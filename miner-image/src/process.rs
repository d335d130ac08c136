//! Processes of the engine: started in a group of their own, reaped, signalled, and ended down to the
//! last child.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getrlimit,
    kill_process, kill_process_group, set_child_subreaper, set_dumpable_behavior, setrlimit, wait,
};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

/// Interval at which `/proc` is searched for processes that remain, while some are being ended.
const LOOK: Duration = Duration::from_millis(20);

/// End of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            // The kernel does so to the largest process of a container that has used its memory up.
            Self::Signal(9) => write!(f, "signal 9, as when memory runs out"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// A process that the agent started.
pub(crate) struct Child {
    /// Id of the process, and of its group.
    pub(crate) pid: Pid,
    /// Its end, once it has ended.
    pub(crate) ended: oneshot::Receiver<Exit>,
    /// Standard output and error of it and its children.
    pub(crate) output: Option<Receiver>,
}

/// All processes below the agent. As the first process of a container, or as the subreaper elsewhere,
/// the agent inherits the orphans of its children, so that no process escapes it.
#[derive(Clone, Default)]
pub(crate) struct Processes {
    awaited: Arc<Mutex<HashMap<Pid, oneshot::Sender<Exit>>>>,
    memory: Option<u64>,
}

impl Processes {
    /// Makes this process inherit orphans and starts to reap them, closes its memory, which holds the
    /// secrets, to the engine, and limits it to `memory` bytes, if given.
    pub(crate) fn adopt(memory: Option<u64>) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let processes = Self { memory, ..Self::default() };
        processes.limit_memory(memory)?;
        let mut ends = signal(SignalKind::child())?;
        let reaper = processes.clone();
        tokio::spawn(async move {
            loop {
                reaper.reap();
                if ends.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(processes)
    }

    /// Starts `command` in a process group of its own, with both of its outputs in one pipe.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Child> {
        let (reader, writer) = io::pipe()?;
        command.process_group(0).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // Held until the process is registered: the reaper, which takes the same lock, would drop the
        // end of a process that it does not know.
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        self.limit_memory(None)?;
        let child = command.spawn();
        let limited = self.limit_memory(self.memory);
        // The command keeps its ends of the pipe, and the reader would never see the end of it.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let pid = i32::try_from(child?.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process has no id"))?;
        let (end, ended) = oneshot::channel();
        awaited.insert(pid, end);
        limited?;
        Ok(Child { pid, ended, output: Some(Receiver::from_owned_fd(reader.into())?) })
    }

    /// Passes `signal` to the group of `child`.
    pub(crate) fn pass(child: Pid, signal: Signal) {
        // Fails only for a group that has ended.
        let _ = kill_process_group(child, signal);
    }

    /// Sends `signal` once to every process below the agent: to `group` as a whole, and to each process
    /// that has left it.
    pub(crate) fn signal_all(group: Pid, signal: Signal) {
        let elsewhere = below().into_iter().filter(|process| process.group != group);
        let elsewhere: Vec<Pid> = elsewhere.map(|process| process.pid).collect();
        // Each fails only for what has ended.
        let _ = kill_process_group(group, signal);
        for pid in elsewhere {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until no process is left below the agent, or until `deadline`. Returns whether none is.
    pub(crate) async fn gone_by(deadline: Instant) -> bool {
        let gone = async {
            while !below().is_empty() {
                sleep(LOOK).await;
            }
        };
        timeout_at(deadline, gone).await.is_ok()
    }

    /// Kills every process below the agent until none is left, or until `deadline`. Returns whether
    /// none is. Repeats, because a process may fork between the search and the signal.
    pub(crate) async fn kill_all(group: Pid, deadline: Instant) -> bool {
        loop {
            Self::signal_all(group, Signal::KILL);
            let next = (Instant::now() + LOOK).min(deadline);
            if Self::gone_by(next).await {
                return true;
            }
            if next == deadline {
                return false;
            }
        }
    }

    fn reap(&self) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(end) = awaited.remove(&pid) {
                // Fails if the receiver has given the process up.
                let _ = end.send(exit(status));
            }
        }
    }

    /// Sets the soft limit of this process's data segment to `bytes`, or back to the hard limit. The
    /// hard limit stays, so that [`Processes::start`] can lift the soft one for the engine, which
    /// inherits it.
    fn limit_memory(&self, bytes: Option<u64>) -> io::Result<()> {
        if self.memory.is_none() {
            return Ok(());
        }
        let maximum = getrlimit(Resource::Data).maximum;
        let current = match (bytes, maximum) {
            (Some(bytes), Some(maximum)) => Some(bytes.min(maximum)),
            (bytes, maximum) => bytes.or(maximum),
        };
        Ok(setrlimit(Resource::Data, Rlimit { current, maximum })?)
    }
}

fn exit(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// A process that has not ended.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    pid: Pid,
    parent: Pid,
    group: Pid,
}

/// Returns all processes below this one that have not ended.
fn below() -> Vec<Process> {
    let all: Vec<Process> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| living(&std::fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parent = getpid();
    let mut next = 0;
    loop {
        found.extend(all.iter().filter(|process| process.parent == parent));
        let Some(process) = found.get(next) else { return found };
        parent = process.pid;
        next += 1;
    }
}

/// Reads a process from `/proc/PID/stat`, unless it has ended. The name in it may hold anything,
/// parentheses included (proc(5)).
fn living(stat: &str) -> Option<Process> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, after) = stat.rsplit_once(')')?;
    let mut words = after.split_whitespace();
    if matches!(words.next()?, "Z" | "X" | "x") {
        return None;
    }
    let id = |word: &str| Pid::from_raw(word.parse().ok()?);
    Some(Process { pid: id(pid)?, parent: id(words.next()?)?, group: id(words.next()?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_hide_a_parent() {
        let pid = |raw| Pid::from_raw(raw).unwrap();
        let found = living("7 (a) S 1 (x) S 5 6 7 0");
        assert_eq!(found, Some(Process { pid: pid(7), parent: pid(5), group: pid(6) }));
        assert_eq!(living("7 (engine) Z 5 7 7 0"), None);
    }
}

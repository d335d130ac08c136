use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Component;
use crate::error::{Error, Result};

/// The time for a component to end by itself: a little longer than the binary's
/// own limit.
const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
const LOG_LINES: usize = 20;

/// A component's process. It ends when this is dropped, and also when this
/// process ends without dropping it: its standard input closes then.
#[derive(Debug)]
pub(crate) struct Process {
    component: Component,
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, its output appended to `log`.
    pub(crate) fn start(component: Component, mut command: Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(Error::io("opening", log))?;
        let error = output.try_clone().map_err(Error::io("opening", log))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(error)
            // A Ctrl-C in the terminal must reach only the program that started this,
            // which then ends it by closing its standard input.
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting", command.get_program()))?;
        let stdin = child.stdin.take();
        Ok(Self { component, child, stdin, log: log.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error when the process has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().map_err(Error::io("waiting", &self.log))? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    fn ended(&self, status: ExitStatus) -> Error {
        Error::Ended { component: self.component, status, log: tail(&self.log) }
    }

    /// Lets the process end by itself, or kills it if that takes too long.
    pub(crate) async fn stop(mut self) {
        self.stdin = None;
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends SIGKILL, and does not wait. A real node gets none: its kubelet ends as
    /// fast when its standard input closes, and the shell that was started waits for
    /// all processes of the node, which SIGKILL would orphan.
    pub(crate) fn kill(&mut self) {
        self.stdin = None;
        if self.component != Component::Kubelet {
            let _ = self.child.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > GRACE {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Returns the last lines of a file, or the reason why there are none.
pub(crate) fn tail(path: &Path) -> String {
    match fs::read(path) {
        Err(error) => format!("(no log at {}: {error})", path.display()),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(LOG_LINES)..].join("\n")
        }
    }
}

/// Returns the resident memory of a process in bytes, where the system reports it.
pub(crate) fn resident_memory(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Empties a log before the next start.
pub(crate) fn empty(log: &Path) {
    let _ = File::create(log);
}

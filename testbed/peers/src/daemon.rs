//! Process of a node.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use daylight_testbed::until_stdin_closes;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};
use crate::rpc::Rpc;

/// Limit for a node's first answer, on a busy machine.
const READY: Duration = Duration::from_mins(2);
/// Limit for a node's end in good order.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
const LOG_LINES: usize = 20;
/// Starts of a node whose port another program takes each time.
const TRIES: usize = 4;

/// Process of a node. It ends when this is dropped, and also when this process ends without dropping it,
/// since its standard input closes then.
#[derive(Debug)]
pub(crate) struct Daemon {
    node: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program with a directory as its home, and its output in a log there.
    pub(crate) fn start(
        node: &'static str,
        program: &Path,
        arguments: &[String],
        home: &Path,
    ) -> Result<Self> {
        let log = home.join(format!("{node}.log"));
        let failed = || Error::io(format!("starting {node}"));
        let output = File::create(&log).map_err(failed())?;
        let child = until_stdin_closes(program)
            .args(arguments)
            .env("HOME", home)
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(failed())?)
            .stderr(output)
            // So that it can be killed with its children, and does not receive a Ctrl-C for this process.
            .process_group(0)
            .spawn()
            .map_err(failed())?;
        Ok(Self { node, child, log })
    }

    /// Waits until the node answers a request.
    pub(crate) async fn ready(&mut self, rpc: &Rpc, method: &str) -> Result<()> {
        self.until(async || rpc.call(method, serde_json::json!([])).await.is_ok()).await
    }

    /// Waits until the node does what is tried.
    pub(crate) async fn until(&mut self, is_ready: impl AsyncFn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_ready().await {
            if let Some(status) = self.child.try_wait().map_err(Error::io("waiting for a node"))? {
                return Err(Error::Ended { node: self.node, status, log: tail(&self.log) });
            }
            if begun.elapsed() > READY {
                return Err(Error::NotReady {
                    node: self.node,
                    after: READY,
                    log: tail(&self.log),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends it in good order, or by SIGKILL if that takes too long.
    pub(crate) async fn stop(mut self) {
        drop(self.child.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A process that was waited for may have passed its number on to another.
        if let (Ok(None), Some(group)) =
            (self.child.try_wait(), Pid::from_raw(self.child.id().cast_signed()))
        {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Starts a node by `start`, and again if another program has taken its port.
pub(crate) async fn on_a_free_port<T, F>(start: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut tries = 1;
    loop {
        match start().await {
            Err(error) if tries < TRIES && lost_its_port(&error) => tries += 1,
            result => return result,
        }
    }
}

/// Returns whether a node ended because another program had taken its port.
fn lost_its_port(error: &Error) -> bool {
    let taken = "address already in use";
    matches!(error, Error::Ended { log, .. } if log.to_lowercase().contains(taken))
}

/// Returns a free port. Another program may take it before the node does, see [`on_a_free_port`].
pub(crate) fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(Error::io("finding a free port"))
}

fn tail(log: &Path) -> String {
    match std::fs::read(log) {
        Err(error) => format!("(no log at {}: {error})", log.display()),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
        }
    }
}

//! The program under test: its processes and its commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use daylight_testbed::ControlPlane;
use daylight_testbed::trials::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::SOON;

/// One `daylight controller`, or `daylight auditor`.
pub struct Process {
    child: Child,
    /// The address of its metrics.
    pub listen: String,
    pub log: PathBuf,
}

/// A short lease, so that tests need not wait long.
const LEASE: [&str; 10] = [
    "--lease-duration",
    "3s",
    "--lease-renew",
    "500ms",
    "--lease-retry",
    "100ms",
    "--request-timeout",
    "1s",
    "--failed-pods-kept",
    "0s",
];

/// The duration of a lease in these tests, and the longest time for a request.
pub const LEASE_DURATION: Duration = Duration::from_secs(3);
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts a program so that a limit on the size of files is an error to it, as a full disk is. Its
/// log goes through a pipe, to which the limit does not apply.
const START: &str = r#"trap '' XFSZ; exec "$@" 2> >(exec cat >"$0")"#;

/// The path of `daylight`, which cargo sets for tests and benchmarks of its crate.
fn program() -> String {
    std::env::var("CARGO_BIN_EXE_daylight").expect("cargo runs this: it sets where daylight is")
}

impl Process {
    /// Starts a controller, and does not wait until it is ready.
    pub fn controller(control_plane: &ControlPlane, name: &str, flags: &[&str]) -> Self {
        let flags = [&["--identity", name], &LEASE[..], flags].concat();
        Self::serve(control_plane, "controller", name, &flags)
    }

    /// Starts an auditor with its journal in a directory of this name. Its key is in a file next to that,
    /// unless a flag names another place: each journal is a ledger of its own.
    pub fn auditor(
        control_plane: &ControlPlane,
        name: &str,
        journal: &str,
        flags: &[&str],
    ) -> Self {
        let directory = control_plane.directory().join(journal);
        let directory = directory.to_str().unwrap();
        let key = format!("{directory}.key");
        let key = ["--ledger-key", &*key];
        let key = if flags.contains(&"--ledger-key") { &[][..] } else { &key };
        let often = ["--data-dir", directory, "--usage-every", "1s", "--book-every", "5s"];
        Self::serve(control_plane, "auditor", name, &[&often, key, flags].concat())
    }

    fn serve(control_plane: &ControlPlane, command: &str, name: &str, flags: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = port.to_string();
        let log = control_plane.directory().join("logs").join(format!("{name}.log"));
        let child = tokio::process::Command::new("bash")
            .args(["-c", START, log.to_str().unwrap(), &program()])
            .args([command, "--listen", &listen])
            .args(flags)
            .envs(control_plane.environment())
            .env("DAYLIGHT_CLOCK_OFFSET", log.with_extension("clock"))
            .env("RUST_LOG", std::env::var("E2E_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, listen, log }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Kills it, as a crash would.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it has ended by itself with an error, and returns its log.
    pub async fn failed(mut self) -> String {
        let ended = tokio::time::timeout(SOON, self.child.wait()).await;
        let status = ended.expect("it ends").unwrap();
        assert!(!status.success(), "it ended with {status}; see {}", self.log.display());
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Terminates it, waits until it has ended, and returns how long that took.
    pub async fn terminate(mut self) -> Duration {
        let begun = Instant::now();
        self.signal("-TERM");
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "it ended with {status}; see {}", self.log.display());
        begun.elapsed()
    }

    /// Keeps the files that it writes from growing, as a full disk would.
    pub fn fill_disk(&self) {
        self.limit_files("1");
    }

    /// Permits them to grow again.
    pub fn free_disk(&self) {
        self.limit_files("unlimited");
    }

    fn limit_files(&self, bytes: &str) {
        let (id, limit) = (self.child.id().unwrap().to_string(), format!("--fsize={bytes}:"));
        let status = Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap();
        assert!(status.success());
    }

    /// Stops all its threads, as a machine that hangs would.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Resumes it.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Sets its clock to be wrong by this much.
    pub fn set_clock(&self, seconds: i64) {
        std::fs::write(self.log.with_extension("clock"), seconds.to_string()).unwrap();
    }

    /// Sends a GET to its HTTP server, and returns the status and the text.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        get(&self.listen, path).await
    }

    /// The sum of a metric over all series that have these labels.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        let values = text
            .lines()
            .filter(|line| {
                let series = line.split([' ', '{']).next();
                series == Some(name) && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value)
    }

    /// Whether it leads.
    pub async fn leads(&self) -> bool {
        self.metric("daylight_leader", &[]).await == Some(1.0)
    }
}

/// Sends a GET, and returns the status and the text.
pub async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

/// Runs a command of `daylight`.
pub fn command(control_plane: &ControlPlane, arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).envs(control_plane.environment()).output().unwrap()
}

/// Runs a command that must succeed, and returns its output.
pub fn command_ok(control_plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = command(control_plane, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "daylight {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and returns its error.
pub fn command_fails(control_plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = command(control_plane, arguments);
    assert!(!output.status.success(), "daylight {arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// Links the program under the name by which kubectl finds plugins.
pub fn as_plugin(directory: &Path) -> PathBuf {
    let path = directory.join("kubectl-daylight");
    if !path.exists() {
        std::os::unix::fs::symlink(program(), &path).unwrap();
    }
    path
}

/// The logs in this directory whose names begin with this, and what is in them.
fn logs(directory: &Path, prefix: &str) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let ours = entries.filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix));
    ours.map(|entry| (entry.path(), std::fs::read_to_string(entry.path()).unwrap_or_default()))
}

/// Prints the end of each log in this directory whose name begins with this.
pub fn show_logs(directory: &Path, prefix: &str) {
    for (path, text) in logs(directory, prefix) {
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- {}", path.display());
        for line in &lines[lines.len().saturating_sub(60)..] {
            eprintln!("{line}");
        }
    }
}

/// Fails if a process whose log begins with this panicked: a controller survives panics of plans.
pub fn check_no_panic(directory: &Path, prefix: &str) -> Outcome {
    let panicked = logs(directory, prefix).find_map(|(path, text)| {
        let line = text.lines().find(|line| line.contains("panicked at"))?.to_owned();
        Some(format!("{}: {line}", path.display()))
    });
    panicked.map_or(Ok(()), |panicked| Err(panicked.into()))
}

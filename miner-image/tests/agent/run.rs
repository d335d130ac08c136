//! Runs of the real binary with a scripted engine.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Time limit of each wait. Only a failing test reaches it.
const TIMEOUT: Duration = Duration::from_secs(40);

/// User and group of the agent in its image.
const UNPRIVILEGED: u32 = 65532;

/// Path of the scripted engine.
pub(crate) const ENGINE: &str = env!("CARGO_BIN_EXE_stand-in");

/// Directory and settings of a run.
pub(crate) struct Site {
    directory: TempDir,
    /// The agent's port.
    port: u16,
    /// The port of the engine's figures.
    pub(crate) figures: u16,
    config: String,
    env: Vec<(String, String)>,
    /// A copy of the agent that an unprivileged user can run.
    agent: Option<PathBuf>,
}

impl Site {
    /// Runs the scripted engine with `args`. With `--figures` among them, its figures are read.
    pub(crate) fn new(args: &[&str]) -> Self {
        let command: Vec<&str> = [ENGINE].iter().chain(args).copied().collect();
        Self::with_command(&command)
    }

    /// Runs any command, in which `DIR` is replaced by the run's directory, and `--figures` gets its port.
    pub(crate) fn with_command(command: &[&str]) -> Self {
        let mut site = Self::bare();
        let here = site.directory.path().to_str().expect("a path in UTF-8").to_owned();
        let figures = site.figures;
        let mut words: Vec<String> =
            command.iter().map(|word| word.replace("DIR", &here)).collect();
        let figures_at = words.iter().position(|word| word == "--figures");
        if let Some(at) = figures_at {
            words.insert(at + 1, figures.to_string());
        }
        site.add(&format!("engine.command = {words:?}"));
        if figures_at.is_some() {
            site.add(&format!(
                r#"[engine.figures]
address = "http://127.0.0.1:{figures}/"
format = "json"
hashrate = "/hashrate"
hashes = "/hashes"
shares_accepted = "/accepted"
shares_rejected = "/rejected"
connected = "/connected"
"#
            ));
        }
        site
    }

    /// Runs a built-in engine for a pool at `endpoint`.
    pub(crate) fn built_in(name: &str, endpoint: &str) -> Self {
        let mut site = Self::bare();
        let wallet = site.file("wallet", "49wallet\n");
        site.add(&format!(
            "engine.name = \"{name}\"\nengine.threads = 1\npool.endpoints = [\"{endpoint}\"]\npool.wallet_file = \"{}\"",
            wallet.display()
        ));
        site
    }

    /// Runs a program of others, and the agent, as an unprivileged user. The program is copied to where
    /// that user can run it.
    pub(crate) fn unprivileged(program: &Path) -> Self {
        let mut site = Self::bare();
        chown(site.directory.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("root");
        let copy = site.path("engine");
        fs::copy(program, &copy).expect("the program");
        let agent = site.path("daylight-miner");
        fs::copy(env!("CARGO_BIN_EXE_daylight-miner"), &agent).expect("the agent");
        site.agent = Some(agent);
        site.add(&format!("engine.command = [\"{}\"]", copy.display()));
        site
    }

    /// Creates the directory; runs nothing yet.
    fn bare() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let [port, figures] = free_ports();
        let here = directory.path().display();
        let config = format!(
            "agent.run_dir = \"{here}/run\"\nhttp.listen = \"127.0.0.1:{port}\"\nrestart.backoff = \"10ms\"\nengine.figures_every = \"100ms\"\n"
        );
        Self { directory, port, figures, config, env: Vec::new(), agent: None }
    }

    /// Adds lines to the configuration.
    pub(crate) fn add(&mut self, lines: &str) {
        self.config += lines;
        self.config += "\n";
    }

    /// Sets one value of the configuration, in TOML.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.config = format!("{key} = {value}\n{}", self.config);
    }

    /// Names another directory for the engine's file.
    pub(crate) fn set_run_dir(&mut self, directory: &str) {
        let is_other = |line: &&str| !line.starts_with("agent.run_dir");
        let others: Vec<&str> = self.config.lines().filter(is_other).collect();
        self.config = format!("agent.run_dir = \"{directory}\"\n{}\n", others.join("\n"));
    }

    /// Sets a variable of the agent's environment.
    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    /// Returns a path in the run's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file there; returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("a file");
        self.path(name)
    }

    /// Returns the agent's command.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let config = self.file("miner.toml", &self.config);
        let agent = self.agent.as_deref();
        let mut command =
            Command::new(agent.unwrap_or(Path::new(env!("CARGO_BIN_EXE_daylight-miner"))));
        if agent.is_some() {
            // Some programs write to where they are started.
            command.uid(UNPRIVILEGED).gid(UNPRIVILEGED).current_dir(self.directory.path());
        }
        command.arg(subcommand).arg("--config").arg(config);
        command.arg("--record").arg(self.path("record"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts the agent.
    pub(crate) fn run(self) -> Run {
        let command = self.command("run");
        self.start(command)
    }

    /// Starts the agent as the first process of a namespace, as in a container. The run's own process
    /// is then `unshare`, whose child the agent is.
    pub(crate) fn run_first(self) -> Run {
        let agent = self.command("run");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
        command.arg(agent.get_program()).args(agent.get_args()).stdin(Stdio::null());
        self.start(command)
    }

    /// Starts the agent with a resolver configuration of its own.
    pub(crate) fn run_with_names(self, names: &Path) -> Run {
        let agent = self.command("run");
        let mut command = Command::new("unshare");
        let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        command.args(["--mount", "--", "sh", "-c", mount]).arg(names);
        command.arg(agent.get_program()).args(agent.get_args()).stdin(Stdio::null());
        self.start(command)
    }

    /// Starts the agent with a log that is not read: the run holds the other end of its pipe.
    pub(crate) fn run_with_unread_log(self) -> Run {
        let mut command = self.command("run");
        let agent = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Run { agent: agent.expect("an agent"), site: self }
    }

    fn start(self, mut command: Command) -> Run {
        let log = fs::File::create(self.path("log")).expect("a log");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        Run { agent: command.spawn().expect("an agent"), site: self }
    }
}

/// A running agent. Dropping it kills the agent, so that a failed test leaves nothing behind.
pub(crate) struct Run {
    agent: Child,
    pub(crate) site: Site,
}

impl Run {
    /// Returns the agent's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.agent.id()
    }

    /// Sends the agent a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.agent), signal).expect("an agent");
    }

    /// Waits until the agent ends; returns its exit code.
    pub(crate) fn code(&mut self) -> i32 {
        let mut ended: Option<ExitStatus> = None;
        self.wait("the agent ends", |run| {
            ended = run.agent.try_wait().expect("an agent");
            ended.is_some()
        });
        ended.and_then(|status| status.code()).expect("an exit code")
    }

    /// Stops it as the kubelet does; returns its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.code()
    }

    /// Waits until `is` holds.
    pub(crate) fn wait(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + TIMEOUT;
        while !is(self) {
            assert!(Instant::now() < until, "{what}: not so, the log is\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the log has `text`.
    pub(crate) fn wait_log(&mut self, text: &str) {
        self.wait(text, |run| run.log().contains(text));
    }

    /// Returns the log.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.site.path("log")).unwrap_or_default()).into_owned()
    }

    /// Returns the record of work.
    pub(crate) fn record(&self) -> Value {
        let text = fs::read(self.site.path("record")).expect("a record");
        serde_json::from_slice(&text).expect("a record in JSON")
    }

    /// Returns the status and the body of the agent's answer; status 0 if there is none.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.get_with(path, "")
    }

    /// The same, with another header line.
    pub(crate) fn get_with(&self, path: &str, header: &str) -> (u16, String) {
        let answer = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.site.port))?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: agent\r\n{header}\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = answer().unwrap_or_default();
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (code, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    /// Returns the value of a series, which is named without its prefix and with all its labels.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let start = format!("daylight_miner_{series} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
    }

    /// Returns the agent's children and theirs.
    pub(crate) fn below(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .expect("processes")
            .flatten()
            .filter_map(|entry| {
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                let (_, after) = stat.rsplit_once(')')?;
                let parent = after.split_whitespace().nth(1)?.parse().ok()?;
                Some((entry.file_name().to_str()?.parse().ok()?, parent))
            })
            .collect();
        let mut found = vec![self.pid()];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        found.split_off(1)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let below = self.below();
        // Each fails only for a process that has ended.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        for pid in below {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

/// Returns two ports that nothing listens on.
pub(crate) fn free_ports() -> [u16; 2] {
    // Both are held at once, so that they differ.
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}

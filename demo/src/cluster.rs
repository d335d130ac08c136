//! The cluster that a story is played on, and Daylight's processes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::process::{Child, Command};

use crate::scrape::{Scrape, get};
use crate::{Error, Result};
use daylight_testbed::{Component, ControlPlane, Exporters, Programs, until_stdin_closes};

/// A cluster, and the `daylight` binary to run on it.
pub struct Cluster {
    kubeconfig: PathBuf,
    client: Client,
    programs: Programs,
    daylight: PathBuf,
    /// The exporters of a cluster that was started for the story.
    exporters: Option<Exporters>,
}

/// The refresh interval of the exporters in a story's cluster: short enough for a limit on energy to
/// be reached within the story.
const REFRESH: Duration = Duration::from_secs(1);

impl Cluster {
    /// A control plane of the testbed that was started for the story, with an exporter on each node.
    pub async fn with_exporters(control_plane: &ControlPlane, daylight: &Path) -> Result<Self> {
        let exporters = Exporters::dcgm().refresh(REFRESH);
        control_plane.create_exporters(&exporters).await?;
        let cluster = Self::of_testbed(control_plane, daylight)?;
        Ok(Self { exporters: Some(exporters), ..cluster })
    }

    /// A control plane of the testbed.
    pub fn of_testbed(control_plane: &ControlPlane, daylight: &Path) -> Result<Self> {
        Ok(Self {
            kubeconfig: control_plane.kubeconfig().to_owned(),
            client: control_plane.client(),
            programs: Programs::find([Component::Kwok])?,
            daylight: daylight.to_owned(),
            exporters: None,
        })
    }

    /// Any other cluster, with nodes that have GPUs.
    pub async fn existing(kubeconfig: &Path, daylight: &Path) -> Result<Self> {
        let unusable = |error: &dyn std::error::Error| {
            Error::new(format!("{} cannot be used: {error}", kubeconfig.display()))
        };
        let file = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(&error))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(&error))?;
        Ok(Self {
            kubeconfig: kubeconfig.to_owned(),
            client: Client::try_from(config).map_err(|error| unusable(&error))?,
            programs: Programs::find([Component::Kwok])?,
            daylight: daylight.to_owned(),
            exporters: None,
        })
    }

    /// Whether the cluster was started for the story, and ends with it.
    pub fn is_ours(&self) -> bool {
        self.exporters.is_some()
    }

    /// The sum of the energy counters of each node's devices, in millijoules. Empty for a user's own
    /// cluster.
    pub async fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let mut counters = BTreeMap::new();
        let Some(exporters) = &self.exporters else { return Ok(counters) };
        for (node, address) in exporters.addresses(self.client()).await? {
            let silent = || Error::new(format!("the exporter of node {node} does not respond"));
            let scrape = get(&address.to_string(), "/metrics").await.map(Scrape::new);
            let millijoules = scrape.ok_or_else(silent)?.sum(Exporters::DCGM_COUNTER, &[]);
            counters.insert(node, millijoules as u64);
        }
        Ok(counters)
    }

    /// A client with the rights of the kubeconfig.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let command = Command::from(self.programs.tool("kubectl")?);
        self.run("kubectl", command, arguments).await
    }

    /// Runs `daylight`, which must succeed, and returns what it printed.
    pub async fn daylight<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        self.run("daylight", Command::new(&self.daylight), arguments).await
    }

    async fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        mut command: Command,
        arguments: &[S],
    ) -> Result<String> {
        let output = command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBERC", "off")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| Error::new(format!("{program} cannot be run: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let arguments: Vec<_> =
            arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
        Err(Error::new(format!(
            "`{program} {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }

    /// Runs kubectl, and returns its error, if it fails.
    pub async fn refused<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Option<String>> {
        let command = Command::from(self.programs.tool("kubectl")?);
        Ok(self.run("kubectl", command, arguments).await.err().map(|Error(sentence)| sentence))
    }

    /// Runs `daylight`, and returns its error, if it fails.
    pub async fn daylight_refused<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Option<String> {
        let refused = self.run("daylight", Command::new(&self.daylight), arguments).await;
        refused.err().map(|Error(sentence)| sentence)
    }

    /// Starts `daylight controller`, and waits until it is ready.
    pub async fn start_controller(&self, log: &Path) -> Result<Process> {
        self.start("controller", &[], log).await
    }

    /// Starts `daylight controller` for a cluster that has an auditor.
    pub async fn start_metered_controller(&self, log: &Path) -> Result<Process> {
        // The rest of a limit on energy is then too small for any miner to start again in this story.
        let flags = ["--metered", "--energy-ahead", "3m"].map(OsStr::new);
        self.start("controller", &flags, log).await
    }

    /// Starts `daylight auditor` with its journal in a directory, and waits until it is ready.
    pub async fn start_auditor(&self, journal: &Path, log: &Path) -> Result<Process> {
        self.start_auditor_with(journal, log, &[]).await
    }

    /// Starts `daylight auditor` with further flags.
    pub async fn start_auditor_with(
        &self,
        journal: &Path,
        log: &Path,
        with: &[&str],
    ) -> Result<Process> {
        let exporter = self.exporters.as_ref().map(ToString::to_string);
        let refresh = format!("{}ms", REFRESH.as_millis());
        let mut flags = vec![OsStr::new("--data-dir"), journal.as_os_str()];
        flags.extend(
            ["--book-every", "5s", "--usage-every", "1s", "--declare-every", "5s"].map(OsStr::new),
        );
        if let Some(exporter) = &exporter {
            flags.extend(["--exporter", exporter, "--scrape-every", "1s"].map(OsStr::new));
            flags.extend(["--exporter-refresh", &refresh].map(OsStr::new));
        }
        flags.extend(with.iter().map(OsStr::new));
        self.start("auditor", &flags, log).await
    }

    async fn start(&self, command: &'static str, flags: &[&OsStr], log: &Path) -> Result<Process> {
        let failed = |error: std::io::Error| {
            Error::new(format!("{} cannot be run: {error}", self.daylight.display()))
        };
        let file = std::fs::File::options().create(true).append(true).open(log).map_err(failed)?;
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(failed)?;
        let child = Command::from(until_stdin_closes(&self.daylight))
            .args([command, "--listen", &address.to_string()])
            .args(flags)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let address = address.to_string();
        let mut process = Process { child, command, address, log: log.to_owned() };
        process.ready().await?;
        Ok(process)
    }
}

/// A running controller or auditor. It ends when this is dropped, and when this process ends for
/// whatever reason: then its standard input closes.
#[derive(Debug)]
pub struct Process {
    child: Child,
    command: &'static str,
    address: String,
    log: PathBuf,
}

impl Process {
    /// The command of `daylight` that it runs.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// The address of its metrics and probes.
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn ready(&mut self) -> Result<()> {
        for _ in 0..600 {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(5).collect();
                return Err(Error::new(format!(
                    "the {} ended ({status}); the end of its log: {}",
                    self.command,
                    last.into_iter().rev().collect::<Vec<_>>().join("\n")
                )));
            }
            if get(&self.address, "/readyz").await.is_some_and(|answer| answer.contains(" 200 ")) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::new(format!(
            "the {} was not ready within a minute; see {}",
            self.command,
            self.log.display()
        )))
    }

    /// Its metrics, if it responds.
    pub async fn scrape(&self) -> Option<Scrape> {
        get(&self.address, "/metrics").await.map(Scrape::new)
    }

    /// Ends it as SIGTERM does, and waits for that.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        let late = |_| Error::new(format!("the {} did not end within 10 s", self.command));
        ended.map(|_| ()).map_err(late)
    }

    /// Kills it without notice, as a crash would.
    pub async fn kill(mut self) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::new(format!("the {} cannot be killed: {error}", self.command))
        };
        let Some(group) = self.child.id() else { return Ok(()) };
        // It has its own process group, whose leader is the shell that started it.
        let kill = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status().await;
        kill.map_err(failed)?;
        self.child.wait().await.map(|_| ()).map_err(failed)
    }
}

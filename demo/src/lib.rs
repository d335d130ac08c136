//! Daylight's main job as a story: `cargo demo` plays it, and a test holds each of its steps.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::report::Report;

mod audit;
mod books;
mod cluster;
mod declared;
mod energy;
mod ledger;
mod light_work;
mod observer;
mod plain_job;
mod program;
mod real;
mod report;
mod scrape;

pub use cluster::{Cluster, Process};
pub use observer::{GpuPod, Observer, Owner, Snapshot};
pub use program::{build, repository};
pub use real::{MiningPool, play_real};
pub use report::{Step, seconds, table};
pub use scrape::Scrape;

const POOL: &str = "frankfurt";
const MINER: &str = "tenant-a/kaspa";
/// How long a step may take before the story counts as failed.
const LIMIT: Duration = Duration::from_mins(2);

/// The reason why a story had to stop, in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// An error with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl From<daylight_testbed::Error> for Error {
    fn from(error: daylight_testbed::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self(format!("a request to the API server failed: {error}"))
    }
}

/// The result of a part of a story.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A story that is being played.
pub struct Story<'a> {
    cluster: &'a Cluster,
    repository: PathBuf,
    log: PathBuf,
    observer: Observer,
    report: Report<'a>,
    gpus: i64,
    gpus_per_node: i64,
}

/// Plays the story on a cluster whose GPU nodes carry the label
/// `nvidia.com/gpu.present=true`; `repository` has `crds/` and `examples/`. The
/// controller and the auditor, which keep running at the end, write their logs to
/// `log` and to the same directory.
pub async fn play(
    cluster: &Cluster,
    repository: &Path,
    log: &Path,
    print: &mut dyn FnMut(&str),
) -> Result<(Vec<Step>, Vec<Process>)> {
    let mut story = Story {
        cluster,
        repository: repository.to_owned(),
        log: log.to_owned(),
        observer: Observer::start(cluster.client()),
        report: Report::new(print),
        gpus: 0,
        gpus_per_node: 0,
    };
    let (controller, auditor) = story.run().await?;
    Ok((story.report.steps, std::iter::once(controller).chain(auditor).collect()))
}

impl Story<'_> {
    async fn run(&mut self) -> Result<(Process, Option<Process>)> {
        self.install().await?;
        let counters = self.cluster.counters().await?;
        let auditor = if self.cluster.is_ours() { Some(self.start_auditor().await?) } else { None };
        let controller = self.start_controller().await?;
        self.line("The controller is ready.");
        self.approval().await?;
        self.fill().await?;
        self.ai_jobs().await?;
        if let Some(auditor) = &auditor {
            self.light_work(auditor).await?;
        }
        let controller = self.without_controller(controller).await?;
        self.window().await?;
        let auditor = if let Some(auditor) = auditor {
            Some(self.auditor_killed(auditor).await?)
        } else {
            self.edit().await?;
            None
        };
        self.emergency_stop().await?;
        if let Some(auditor) = &auditor {
            self.energy_cap().await?;
            self.books(auditor, &counters).await?;
            self.ledger(auditor).await?;
            self.declared(auditor).await?;
            self.admission().await?;
        }
        self.totals();
        Ok((controller, auditor))
    }

    /// Starts the controller. On a user's own cluster it runs without an auditor, so that no pod is
    /// left behind that waits for one.
    async fn start_controller(&self) -> Result<Process> {
        if self.cluster.is_ours() {
            self.cluster.start_metered_controller(&self.log).await
        } else {
            self.cluster.start_controller(&self.log).await
        }
    }

    fn line(&mut self, text: &str) {
        self.report.line(text);
    }

    fn step(&mut self, what: &str, took: Option<Duration>, seen: impl Into<String>, held: bool) {
        self.report.step(what, took, seen, held);
    }

    async fn file(&self, path: &str) -> Result<()> {
        let path = self.repository.join(path);
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        Ok(())
    }

    async fn patch(&self, what: &[&str], patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        let mut arguments = vec!["patch"];
        arguments.extend(what);
        arguments.extend(["--type=merge", "-p", &patch]);
        self.cluster.kubectl(&arguments).await.map(|_| ())
    }

    async fn pool(&self, mining: Value) -> Result<()> {
        self.patch(&["gpupool", POOL], &json!({"spec": {"mining": mining}})).await
    }

    /// Waits until an object's status has this reason, and returns its message.
    async fn reason(&self, kind: &str, key: &str, reason: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let (namespace, name) = key.split_once('/').unwrap_or(("default", key));
            let json =
                self.cluster.kubectl(&["get", kind, name, "-n", namespace, "-o", "json"]).await?;
            let object: Value = serde_json::from_str(&json).unwrap_or_default();
            let status = &object["status"];
            if status["reason"] == reason {
                return Ok(status["message"].as_str().unwrap_or_default().to_owned());
            }
            if start.elapsed() > LIMIT {
                return Err(Error::new(format!(
                    "{kind} {key} did not reach the reason {reason}; its status is {status}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client());
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => created.map(|_| ()).map_err(Error::from),
        }
    }

    async fn install(&mut self) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.cluster.client());
        let with_gpus = ListParams::default().labels("nvidia.com/gpu.present=true");
        for node in nodes.list(&with_gpus).await? {
            let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
            let gpus = allocatable.get("nvidia.com/gpu").and_then(|gpus| gpus.0.parse().ok());
            self.gpus += gpus.unwrap_or(0);
            self.gpus_per_node = self.gpus_per_node.max(gpus.unwrap_or(0));
        }
        if self.gpus < 160 {
            return Err(Error::new(format!(
                "the nodes labelled nvidia.com/gpu.present=true have {} nvidia.com/gpu; the story needs 160",
                self.gpus
            )));
        }
        self.namespace("daylight-system").await?;
        self.file("crds").await?;
        self.cluster
            .kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])
            .await?;
        for file in
            ["00-namespaces", "10-activity-classes", "20-gpu-pool", "30-registration", "40-miner"]
        {
            self.file(&format!("examples/{file}.yaml")).await?;
        }
        // Simulated miners take two seconds to stop.
        self.cluster
            .kubectl(&[
                "annotate",
                "miner",
                "kaspa",
                "-n",
                "tenant-a",
                "--overwrite",
                "daylight.dev/simulated-drain-time=2s",
            ])
            .await?;
        self.line(&format!("Found {} GPUs. Applied crds/ and examples/.", self.gpus));
        Ok(())
    }

    async fn approval(&mut self) -> Result<()> {
        let why = self.reason("miner", MINER, "AwaitingApproval").await?;
        let none = self.observer.snapshot().held_by_miners() == 0;
        self.step("nothing mines before approval", None, why, none);

        let start = Instant::now();
        self.cluster
            .daylight(&["approve", MINER, "--generation", "1", "-m", "Filed and checked."])
            .await?;
        self.reason("miner", MINER, "PoolObserves").await?;
        let planned = self.full().to_string();
        let would = format!("jsonpath={{.status.plannedMiningGpus}}={planned}");
        let wait = ["wait", "gpupool", POOL, "--for", &would, "--timeout=30s"];
        self.cluster.kubectl(&wait).await?;
        let none = self.observer.snapshot().held_by_miners() == 0;
        let seen = format!("with policy Fill, {planned} GPUs would mine");
        self.step("after approval, policy Observe only plans", Some(start.elapsed()), seen, none);
        let why = self.cluster.daylight(&["why", "gpupool", POOL]).await?;
        self.line(why.trim());
        Ok(())
    }

    /// The GPUs that mine in an idle cluster: all but the headroom of 5%.
    fn full(&self) -> i64 {
        self.gpus - (self.gpus * 5 + 99) / 100
    }

    async fn fill(&mut self) -> Result<()> {
        self.pool(json!({"policy": "Fill"})).await?;
        let full = self.full();
        let took = self.observer.until(LIMIT, |snapshot| snapshot.mining() >= full).await;
        let mining = self.observer.snapshot().mining();
        let seen = format!("{mining} of {} GPUs mine, 5% stay idle for AI", self.gpus);
        self.step("idle GPUs are filled", took, seen, took.is_some() && mining == full);
        let status = self.cluster.daylight(&["status"]).await?;
        self.line(status.trim_end());
        Ok(())
    }

    async fn ai_jobs(&mut self) -> Result<()> {
        let jobs = std::fs::read_to_string(self.repository.join("examples/50-ai-jobs.yaml"))
            .map_err(|error| Error::new(format!("examples/50-ai-jobs.yaml: {error}")))?;
        let document = |name: &str| {
            let named = |part: &&str| part.contains(&format!("name: {name}\n"));
            jobs.split("\n---\n").find(named).map(str::to_owned)
        };
        for (name, workers, gpus) in [("fine-tune", 1, 1), ("pretrain", 8, 64)] {
            let path = self.log.with_file_name(format!("{name}.yaml"));
            let text = document(name).unwrap_or_default();
            std::fs::write(&path, text)
                .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
            let before = self.observer.snapshot().miners_stopped;
            let path = path.as_os_str();
            self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path]).await?;
            let all = |snapshot: &Snapshot| snapshot.running_of(name) == workers;
            let took = self.observer.until(LIMIT, all).await;
            let stopped = self.observer.snapshot().miners_stopped - before;
            let held =
                took.is_some() && i64::try_from(stopped).is_ok_and(|stopped| stopped <= gpus);
            let what = format!("an AI job gets {gpus} of its GPUs back");
            let miners = if stopped == 1 { "1 miner" } else { &format!("{stopped} miners") };
            self.step(&what, took, format!("{miners} stopped for it"), held);
        }
        let full = self.gpus - 65 - (self.gpus * 5 + 99) / 100;
        let rest = self.observer.until(LIMIT, |snapshot| snapshot.mining() == full).await;
        let mining = self.observer.snapshot().mining();
        self.step("the idle reserve is kept", None, format!("{mining} GPUs mine"), rest.is_some());
        Ok(())
    }

    async fn without_controller(&mut self, controller: Process) -> Result<Process> {
        controller.stop().await?;
        self.line("Stopped the controller.");
        let before = self.observer.snapshot().miners_stopped;
        let manifest = plain_job::manifest("plain", 32);
        let path = self.log.with_file_name("plain.yaml");
        std::fs::write(&path, manifest)
            .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        let took = self.observer.until(LIMIT, |snapshot| snapshot.running_of("plain") == 32).await;
        let stopped = self.observer.snapshot().miners_stopped - before;
        self.step(
            "a plain Job of 32 preempts with Daylight stopped",
            took,
            format!("{stopped} miners preempted by kube-scheduler"),
            took.is_some(),
        );
        let begun = Instant::now();
        let controller = self.start_controller().await?;
        let full = self.gpus - 97 - (self.gpus * 5 + 99) / 100;
        let settled = self.observer.until(LIMIT, |snapshot| snapshot.mining() == full).await;
        let took = settled.map(|_| begun.elapsed());
        let most = self.observer.snapshot().most_on_a_node;
        let seen = format!("never more than {most} GPUs of a node held at once");
        let held = took.is_some() && most <= self.gpus_per_node;
        self.step("Daylight restarts and assigns no GPU twice", took, seen, held);
        Ok(controller)
    }

    async fn window(&mut self) -> Result<()> {
        // A window that opened a minute ago, and ends one drain timeout and some seconds from now:
        // Daylight stops miners one drain timeout before the end of a window.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let (minute, second) = ((now / 60 + 59) % 60, now % 60);
        let duration = format!("{}s", 60 + second + 30 + 4);
        let schedule = format!("{minute} * * * *");
        let window = json!([{"name": "demo", "schedule": schedule, "duration": duration}]);
        self.pool(json!({"windows": window})).await?;
        let took = self.observer.until(LIMIT, |snapshot| snapshot.held_by_miners() == 0).await;
        let why = self.reason("miner", MINER, "WindowClosed").await?;
        self.step("the mining window closes", took, why, took.is_some());
        self.pool(json!({"windows": []})).await?;
        self.refill().await;
        Ok(())
    }

    async fn refill(&mut self) {
        let some = self.gpus / 4;
        let took = self.observer.until(LIMIT, |snapshot| snapshot.mining() >= some).await;
        let mining = self.observer.snapshot().mining();
        self.step("mining resumes", took, format!("{mining} GPUs mine again"), took.is_some());
    }

    async fn edit(&mut self) -> Result<()> {
        let (namespace, name) = ("tenant-a", "kaspa");
        self.patch(
            &["registration", name, "-n", namespace],
            &json!({"spec": {"limits": {"watts": 143_000}}}),
        )
        .await?;
        let took = self.observer.until(LIMIT, |snapshot| snapshot.held_by_miners() == 0).await;
        let why = self.reason("miner", MINER, "ApprovalVoided").await?;
        self.step("an edited registration stops mining", took, why, took.is_some());
        self.cluster
            .daylight(&["approve", MINER, "--generation", "2", "-m", "The lower limit is fine."])
            .await?;
        self.refill().await;
        Ok(())
    }

    async fn emergency_stop(&mut self) -> Result<()> {
        self.cluster.daylight(&["stop", "-m", "Demonstration of the emergency stop"]).await?;
        let took = self.observer.until(LIMIT, |snapshot| snapshot.held_by_miners() == 0).await;
        let why = self.reason("miner", MINER, "EmergencyStop").await?;
        let ai = self.observer.snapshot().running_of("pretrain") == 8;
        let held = took.is_some() && ai && why.contains("Demonstration of the emergency stop");
        self.step("an emergency stop ends all mining, AI continues", took, why, held);
        self.cluster.daylight(&["resume"]).await?;
        self.refill().await;
        Ok(())
    }

    fn totals(&mut self) {
        let snapshot = self.observer.snapshot();
        let held = snapshot.most_on_a_node <= self.gpus_per_node
            && snapshot.most_mining <= self.gpus.min(320);
        let seen = format!(
            "at most {} GPUs of a node held and {} mining, checked at every change of every pod",
            snapshot.most_on_a_node, snapshot.most_mining
        );
        self.step("caps held at every moment", None, seen, held);
    }
}

/// Writes a file to the log's directory.
fn file_beside(log: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = log.with_file_name(name);
    std::fs::write(&path, text)
        .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    Ok(path)
}

//! The main job as a story: what `cargo demo` shows, and an end-to-end test
//! holds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::report::Telling;

mod audit;
mod books;
mod cluster;
mod energy;
mod observer;
mod plain_job;
mod program;
mod real;
mod report;
mod scrape;

pub use cluster::{Cluster, Operator};
pub use observer::{Observer, Owner, Picture, Seen};
pub use program::{build, repository};
pub use real::{MiningPool, play_real};
pub use report::{Step, seconds, table};
pub use scrape::Scrape;

const POOL: &str = "frankfurt";
const MINER: &str = "tenant-a/kaspa";
/// How long a step may take before the story counts as failed.
const LIMIT: Duration = Duration::from_mins(2);

/// Why a story could not go on: one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(String);

impl Stopped {
    /// A story that ends with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl From<daylight_testbed::Error> for Stopped {
    fn from(error: daylight_testbed::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<kube::Error> for Stopped {
    fn from(error: kube::Error) -> Self {
        Self(format!("the API server refused or was away: {error}"))
    }
}

/// The result of a part of the story.
pub type Told<T> = std::result::Result<T, Stopped>;

/// The story in the telling.
pub struct Story<'a> {
    cluster: &'a Cluster,
    repository: PathBuf,
    log: PathBuf,
    observer: Observer,
    telling: Telling<'a>,
    gpus: i64,
    gpus_per_node: i64,
}

/// Plays the story on a cluster whose GPU nodes carry the label
/// `nvidia.com/gpu.present=true`; `repository` has `crds/` and `examples/`. The
/// controller and the auditor, left running at the end, write their logs to
/// `log` and beside it.
pub async fn play(
    cluster: &Cluster,
    repository: &Path,
    log: &Path,
    say: &mut dyn FnMut(&str),
) -> Told<(Vec<Step>, Vec<Operator>)> {
    let mut story = Story {
        cluster,
        repository: repository.to_owned(),
        log: log.to_owned(),
        observer: Observer::start(cluster.client()),
        telling: Telling::new(say),
        gpus: 0,
        gpus_per_node: 0,
    };
    let (operator, auditor) = story.tell().await?;
    Ok((story.telling.steps, std::iter::once(operator).chain(auditor).collect()))
}

impl Story<'_> {
    async fn tell(&mut self) -> Told<(Operator, Option<Operator>)> {
        self.install().await?;
        let counters = self.cluster.counters().await?;
        let auditor = if self.cluster.is_ours() { Some(self.start_auditor().await?) } else { None };
        let operator = self.start_operator().await?;
        self.line("The controller is ready.");
        self.approval().await?;
        self.fill().await?;
        self.ai_jobs().await?;
        let operator = self.without_operator(operator).await?;
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
            self.admission().await?;
        }
        self.totals();
        Ok((operator, auditor))
    }

    /// On a cluster of somebody else's nothing may be left that waits for an auditor.
    async fn start_operator(&self) -> Told<Operator> {
        if self.cluster.is_ours() {
            self.cluster.start_metered_operator(&self.log).await
        } else {
            self.cluster.start_operator(&self.log).await
        }
    }

    fn line(&mut self, text: &str) {
        self.telling.line(text);
    }

    fn step(&mut self, what: &str, took: Option<Duration>, seen: impl Into<String>, held: bool) {
        self.telling.step(what, took, seen, held);
    }

    async fn file(&self, path: &str) -> Told<()> {
        let path = self.repository.join(path);
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        Ok(())
    }

    async fn patch(&self, what: &[&str], patch: &Value) -> Told<()> {
        let patch = patch.to_string();
        let mut arguments = vec!["patch"];
        arguments.extend(what);
        arguments.extend(["--type=merge", "-p", &patch]);
        self.cluster.kubectl(&arguments).await.map(|_| ())
    }

    async fn pool(&self, mining: Value) -> Told<()> {
        self.patch(&["gpupool", POOL], &json!({"spec": {"mining": mining}})).await
    }

    /// Waits until an object's status has this reason, and returns its message.
    async fn reason(&self, kind: &str, key: &str, reason: &str) -> Told<String> {
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
                return Err(Stopped::new(format!(
                    "{kind} {key} did not come to {reason}; its status is {status}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn namespace(&self, name: &str) -> Told<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client());
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => created.map(|_| ()).map_err(Stopped::from),
        }
    }

    async fn install(&mut self) -> Told<()> {
        let nodes: Api<Node> = Api::all(self.cluster.client());
        let with_gpus = ListParams::default().labels("nvidia.com/gpu.present=true");
        for node in nodes.list(&with_gpus).await? {
            let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
            let gpus = allocatable.get("nvidia.com/gpu").and_then(|gpus| gpus.0.parse().ok());
            self.gpus += gpus.unwrap_or(0);
            self.gpus_per_node = self.gpus_per_node.max(gpus.unwrap_or(0));
        }
        if self.gpus < 160 {
            return Err(Stopped::new(format!(
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
        // What the simulated miners do when they are told to stop: they take
        // two seconds.
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
        self.line(&format!("{} GPUs; crds/ and examples/ are applied.", self.gpus));
        Ok(())
    }

    async fn approval(&mut self) -> Told<()> {
        let why = self.reason("miner", MINER, "AwaitingApproval").await?;
        let none = self.observer.picture().held_by_miners() == 0;
        self.step("nothing mines before approval", None, why, none);

        let start = Instant::now();
        self.cluster.daylight(&["approve", MINER, "-m", "Filed and checked."]).await?;
        self.reason("miner", MINER, "PoolObserves").await?;
        let planned = self.full().to_string();
        let would = format!("jsonpath={{.status.plannedMiningGpus}}={planned}");
        let wait = ["wait", "gpupool", POOL, "--for", &would, "--timeout=30s"];
        self.cluster.kubectl(&wait).await?;
        let none = self.observer.picture().held_by_miners() == 0;
        let seen = format!("with Fill, {planned} GPUs would mine");
        self.step("approved, and the pool only observes", Some(start.elapsed()), seen, none);
        let why = self.cluster.daylight(&["why", "gpupool", POOL]).await?;
        self.line(why.trim());
        Ok(())
    }

    /// GPUs that mine when all is idle but the headroom of 5%.
    fn full(&self) -> i64 {
        self.gpus - (self.gpus * 5 + 99) / 100
    }

    async fn fill(&mut self) -> Told<()> {
        self.pool(json!({"policy": "Fill"})).await?;
        let full = self.full();
        let took = self.observer.until(LIMIT, |picture| picture.mining() >= full).await;
        let mining = self.observer.picture().mining();
        let seen = format!("{mining} of {} GPUs mine, 5% stay idle for AI", self.gpus);
        self.step("idle GPUs are filled", took, seen, took.is_some() && mining == full);
        let status = self.cluster.daylight(&["status"]).await?;
        self.line(status.trim_end());
        Ok(())
    }

    async fn ai_jobs(&mut self) -> Told<()> {
        let jobs = std::fs::read_to_string(self.repository.join("examples/50-ai-jobs.yaml"))
            .map_err(|error| Stopped::new(format!("examples/50-ai-jobs.yaml: {error}")))?;
        let document = |name: &str| {
            let named = |part: &&str| part.contains(&format!("name: {name}\n"));
            jobs.split("\n---\n").find(named).map(str::to_owned)
        };
        for (name, workers, gpus) in [("fine-tune", 1, 1), ("pretrain", 8, 64)] {
            let path = self.log.with_file_name(format!("{name}.yaml"));
            let text = document(name).unwrap_or_default();
            std::fs::write(&path, text)
                .map_err(|error| Stopped::new(format!("{}: {error}", path.display())))?;
            let before = self.observer.picture().miners_stopped;
            let path = path.as_os_str();
            self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path]).await?;
            let all = |picture: &Picture| picture.running_of(name) == workers;
            let took = self.observer.until(LIMIT, all).await;
            let stopped = self.observer.picture().miners_stopped - before;
            let held =
                took.is_some() && i64::try_from(stopped).is_ok_and(|stopped| stopped <= gpus);
            let what = format!("an AI job of {gpus} takes its GPUs back");
            let miners = if stopped == 1 { "1 miner" } else { &format!("{stopped} miners") };
            self.step(&what, took, format!("{miners} stopped for it"), held);
        }
        let full = self.gpus - 65 - (self.gpus * 5 + 99) / 100;
        let rest = self.observer.until(LIMIT, |picture| picture.mining() == full).await;
        let mining = self.observer.picture().mining();
        self.step("the idle reserve is kept", None, format!("{mining} mine"), rest.is_some());
        Ok(())
    }

    async fn without_operator(&mut self, operator: Operator) -> Told<Operator> {
        operator.stop().await?;
        self.line("The controller is stopped.");
        let before = self.observer.picture().miners_stopped;
        let manifest = plain_job::manifest("plain", 32);
        let path = self.log.with_file_name("plain.yaml");
        std::fs::write(&path, manifest)
            .map_err(|error| Stopped::new(format!("{}: {error}", path.display())))?;
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        let took = self.observer.until(LIMIT, |picture| picture.running_of("plain") == 32).await;
        let stopped = self.observer.picture().miners_stopped - before;
        self.step(
            "a plain Job of 32 preempts with Daylight stopped",
            took,
            format!("{stopped} miners preempted by kube-scheduler"),
            took.is_some(),
        );
        let begun = Instant::now();
        let operator = self.start_operator().await?;
        let full = self.gpus - 97 - (self.gpus * 5 + 99) / 100;
        let settled = self.observer.until(LIMIT, |picture| picture.mining() == full).await;
        let took = settled.map(|_| begun.elapsed());
        let most = self.observer.picture().most_on_a_node;
        let seen = format!("at most {most} GPUs of a node were ever held at once");
        let held = took.is_some() && most <= self.gpus_per_node;
        self.step("it comes back, and no GPU is assigned twice", took, seen, held);
        Ok(operator)
    }

    async fn window(&mut self) -> Told<()> {
        // A window that opened a minute ago and ends a drain and some seconds
        // from now; miners are told a drain before its end.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let (minute, second) = ((now / 60 + 59) % 60, now % 60);
        let duration = format!("{}s", 60 + second + 30 + 4);
        let schedule = format!("{minute} * * * *");
        let window = json!([{"name": "demo", "schedule": schedule, "duration": duration}]);
        self.pool(json!({"windows": window})).await?;
        let took = self.observer.until(LIMIT, |picture| picture.held_by_miners() == 0).await;
        let why = self.reason("miner", MINER, "WindowClosed").await?;
        self.step("the mining window closes", took, why, took.is_some());
        self.pool(json!({"windows": []})).await?;
        self.refill().await;
        Ok(())
    }

    async fn refill(&mut self) {
        let some = self.gpus / 4;
        let took = self.observer.until(LIMIT, |picture| picture.mining() >= some).await;
        let mining = self.observer.picture().mining();
        self.step("mining resumes", took, format!("{mining} GPUs mine again"), took.is_some());
    }

    async fn edit(&mut self) -> Told<()> {
        let (namespace, name) = ("tenant-a", "kaspa");
        self.patch(
            &["registration", name, "-n", namespace],
            &json!({"spec": {"limits": {"watts": 143_000}}}),
        )
        .await?;
        let took = self.observer.until(LIMIT, |picture| picture.held_by_miners() == 0).await;
        let why = self.reason("miner", MINER, "ApprovalVoided").await?;
        self.step("an edited registration stops mining", took, why, took.is_some());
        self.cluster.daylight(&["approve", MINER, "-m", "The lower limit is fine."]).await?;
        self.refill().await;
        Ok(())
    }

    async fn emergency_stop(&mut self) -> Told<()> {
        self.cluster.daylight(&["stop", "-m", "The demonstration says so"]).await?;
        let took = self.observer.until(LIMIT, |picture| picture.held_by_miners() == 0).await;
        let why = self.reason("miner", MINER, "EmergencyStop").await?;
        let ai = self.observer.picture().running_of("pretrain") == 8;
        let held = took.is_some() && ai && why.contains("The demonstration says so");
        self.step("emergency stop ends all mining, AI goes on", took, why, held);
        self.cluster.daylight(&["resume"]).await?;
        self.refill().await;
        Ok(())
    }

    fn totals(&mut self) {
        let picture = self.observer.picture();
        let held = picture.most_on_a_node <= self.gpus_per_node
            && picture.most_mining <= self.gpus.min(320);
        let seen = format!(
            "at most {} GPUs on a node and {} mining in all, over every change of every pod",
            picture.most_on_a_node, picture.most_mining
        );
        self.step("caps held at every moment", None, seen, held);
    }
}

/// A file beside the log.
fn file_beside(log: &Path, name: &str, text: &str) -> Told<PathBuf> {
    let path = log.with_file_name(name);
    std::fs::write(&path, text)
        .map_err(|error| Stopped::new(format!("{}: {error}", path.display())))?;
    Ok(path)
}

//! Ten minutes of faults, with an independent observer.
//!
//! `cargo test -p daylight --test e2e -- --ignored chaos`. In each round leaders and auditors are
//! killed, watches fall silent, clocks are set and nodes fail, at random. Then everything is restored,
//! all must mine again, and nothing may be written by Daylight any more, by the API server's audit
//! log. `CHAOS_SECONDS` is the time in all, `CHAOS_SEED` repeats a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daylight_crds::{AiJob, Miner};
use daylight_test_site::program::Process;
use daylight_test_site::proxy::Proxy;
use daylight_test_site::{Site, eventually, install};
use daylight_testbed::trials::{Outcome, apply, caught, trial};
use daylight_testbed::{Component, ControlPlane, Options, Scratch};
use fastrand::Rng;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

/// The time of faults in each round.
const FAULTS: Duration = Duration::from_mins(1);
/// The longest time until all mine again after it.
const RECOVERS_WITHIN: Duration = Duration::from_mins(2);
/// The time in which nothing may be written, and the longest time after the recovery until it begins:
/// the auditor records what it has missed.
const QUIET: Duration = Duration::from_secs(10);
const SETTLES_WITHIN: Duration = Duration::from_mins(1);

const NODES: usize = 4;
const POOL_CAP: u32 = 20;
const REGISTRATION_CAP: u32 = 9;

const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  resources: [{group: coordination.k8s.io}]
- level: Request
  verbs: [create, update, patch, delete, deletecollection]
";

/// A controller or auditor that reaches the API server through its own proxy.
struct Replica {
    proxy: Proxy,
    /// `None` only while it is replaced.
    process: Option<Process>,
}

impl Replica {
    fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }
}

/// What is under test, and what has been done to it.
struct Chaos {
    site: Site,
    controllers: Vec<Replica>,
    auditor: Replica,
    rng: Rng,
    /// Processes and jobs so far, for their names.
    count: u32,
    done: BTreeMap<&'static str, u32>,
}

#[apply(trial!)]
#[ignore = "takes ten minutes"]
async fn no_cap_is_passed_in_ten_minutes_of_faults() -> Outcome {
    let seconds = std::env::var("CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|text| text.parse().ok());
    let (lasts, seed) =
        (Duration::from_secs(seconds.unwrap_or(600)), seed.unwrap_or_else(|| fastrand::u64(..)));
    eprintln!("CHAOS_SEED={seed}");
    let files = Scratch::new().unwrap();
    let (policy, audit) = (files.path().join("policy.yaml"), files.path().join("audit.log"));
    std::fs::write(&policy, AUDIT_POLICY).unwrap();
    let options = Options::full()
        .flag(Component::ApiServer, format!("--audit-policy-file={}", policy.display()))
        .flag(Component::ApiServer, format!("--audit-log-path={}", audit.display()));
    let control_plane = Arc::new(ControlPlane::start(options).await.unwrap());
    install(&control_plane).await;
    let site = Site::new(control_plane, "chaos", 1).await;
    site.nodes(NODES).await;
    site.pool(json!({"maxGpus": POOL_CAP, "minRunTime": "10s", "drainTimeout": "5s"})).await;
    site.observer.cap_pool(&site.name, POOL_CAP);
    site.registered("small", json!({"gpus": REGISTRATION_CAP})).await;
    site.observer.cap_registration(&site.key("small"), REGISTRATION_CAP);
    site.registered("large", json!({"gpus": 100})).await;
    site.miner("one", "small", 40, json!({})).await;
    let slow = json!({"daylight.dev/simulated-drain-time": "3s"});
    site.miner("two", "large", 40, json!({"drainTimeout": "4s"})).await;
    let miners: Api<Miner> = site.namespaced();
    let patch = Patch::Merge(json!({"metadata": {"annotations": slow}}));
    miners.patch("two", &PatchParams::default(), &patch).await.unwrap();
    let mut controllers = Vec::new();
    for number in 0..2 {
        let proxy = Proxy::start(&site.control_plane, &format!("controller-{number}")).await;
        let process = controller(&site, &proxy, &format!("c{number}"));
        controllers.push(Replica { proxy, process: Some(process) });
    }
    let proxy = Proxy::start(&site.control_plane, "auditor").await;
    let auditor = Replica { process: Some(auditor(&site, &proxy, "a")), proxy };
    let rng = Rng::with_seed(seed);
    let mut chaos = Chaos { site, controllers, auditor, rng, count: 0, done: BTreeMap::new() };
    let outcome = caught(chaos.run(lasts, &audit)).await;
    let Chaos { site, controllers, auditor, .. } = chaos;
    let outcome = site.end(outcome).await;
    drop((controllers, auditor));
    outcome
}

fn controller(site: &Site, proxy: &Proxy, name: &str) -> Process {
    let kubeconfig = proxy.kubeconfig.to_str().unwrap();
    let flags = ["--metered", "--record-after", "10s", "--kubeconfig", kubeconfig];
    Process::controller(&site.control_plane, &site.key_dash(name), &flags)
}

fn auditor(site: &Site, proxy: &Proxy, name: &str) -> Process {
    let flags = ["--kubeconfig", proxy.kubeconfig.to_str().unwrap()];
    Process::auditor(&site.control_plane, &site.key_dash(name), "chaos-journal", &flags)
}

impl Chaos {
    async fn run(&mut self, lasts: Duration, audit: &Path) -> Outcome {
        let began = Instant::now();
        self.recover().await;
        while began.elapsed() < lasts {
            let round = Instant::now();
            while round.elapsed() < FAULTS {
                self.fault().await;
                let pause = self.rng.u64(200..3000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            self.restore().await;
            let recovered = Instant::now();
            self.recover().await;
            let recovered = recovered.elapsed();
            self.site.observer.check()?;
            let writes = self.settle(audit).await;
            eprintln!(
                "{:3.0} s: all mine {recovered:.1?} after the faults, {writes} writes later none for {QUIET:?}; {} pods and {} events of pods so far",
                began.elapsed().as_secs_f64(),
                self.site.observer.started(),
                self.site.observer.events(),
            );
        }
        eprintln!("{:.0} s, faults: {:?}", began.elapsed().as_secs_f64(), self.done);
        Ok(())
    }

    /// Waits until nothing is written any more, and returns the number of writes until then.
    async fn settle(&self, audit: &Path) -> usize {
        let (began, began_at) = (Instant::now(), jiff::Timestamp::now());
        loop {
            let from = jiff::Timestamp::now();
            tokio::time::sleep(QUIET).await;
            let writes = writes_since(audit, from);
            if writes.is_empty() {
                return writes_since(audit, began_at).len();
            }
            let last = &writes[writes.len().saturating_sub(6)..];
            assert!(
                began.elapsed() < SETTLES_WITHIN,
                "{} writes in {QUIET:?} while nothing happens, at last {last:#?}",
                writes.len(),
            );
        }
    }

    /// Waits until all GPUs that may mine do.
    async fn recover(&self) {
        eventually(RECOVERS_WITHIN, "all mine that may", || async {
            let mining = self.site.mining().await.len();
            let pods = self.site.pods("daylight.dev/miner").await.len();
            (mining == POOL_CAP as usize && pods == mining).then_some(())
        })
        .await;
    }

    fn note(&mut self, fault: &'static str) {
        *self.done.entry(fault).or_default() += 1;
    }

    fn name(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{}", self.count)
    }

    /// The place of the controller that leads, or else of any.
    async fn leader(&mut self) -> usize {
        for (place, replica) in self.controllers.iter().enumerate() {
            if replica.process().leads().await {
                return place;
            }
        }
        self.rng.usize(0..self.controllers.len())
    }

    async fn fault(&mut self) {
        match self.rng.u32(0..18) {
            0 | 1 => {
                let place = self.leader().await;
                let name = self.name("c");
                let process = controller(&self.site, &self.controllers[place].proxy, &name);
                let killed = self.controllers[place].process.replace(process);
                killed.unwrap().kill().await;
                self.note("leader killed");
            }
            2 => {
                let name = self.name("a");
                // Two auditors cannot share a journal: the first has to end before.
                self.auditor.process.take().unwrap().kill().await;
                self.auditor.process = Some(auditor(&self.site, &self.auditor.proxy, &name));
                self.note("auditor killed");
            }
            3 | 4 => {
                let place = self.leader().await;
                self.controllers[place].proxy.silence();
                self.note("watches of the leader silent");
            }
            5 => {
                self.auditor.proxy.silence();
                self.note("watches of the auditor silent");
            }
            6 => {
                let place = self.leader().await;
                self.controllers[place].proxy.silence_all();
                self.note("network of the leader silent");
            }
            7 | 15 | 16 => {
                for replica in self.controllers.iter().chain([&self.auditor]) {
                    replica.proxy.restore();
                }
                self.note("networks restored");
            }
            8 | 9 => {
                let place = self.rng.usize(0..self.controllers.len());
                let seconds = self.rng.i64(-3600..3600);
                self.controllers[place].process().set_clock(seconds);
                self.note("clock of a controller set");
            }
            10 => {
                let node = self.node();
                let away = self.rng.bool();
                self.site.control_plane.set_outage(&node, away).await.unwrap();
                self.note(if away { "node lost" } else { "node back" });
            }
            11 => {
                let (node, gpus) = (self.node(), self.rng.u32(6..9));
                self.set_gpus(&node, gpus).await;
                self.note("GPUs of a node changed");
            }
            12 | 13 => {
                let (workers, gpus) = (self.rng.u32(1..4), self.rng.u32(1..9));
                let name = self.name("job");
                self.site.ai_job(&name, workers, gpus, json!({})).await;
                self.note("AI job");
            }
            14 => {
                self.delete_jobs(1).await;
                self.note("AI job deleted");
            }
            _ => {
                let replicas = self.rng.u32(0..40);
                let name = if self.rng.bool() { "one" } else { "two" };
                self.scale(name, replicas).await;
                self.note("miner scaled");
            }
        }
    }

    fn node(&mut self) -> String {
        format!("{}-{:04}", self.site.name, self.rng.usize(0..NODES))
    }

    async fn set_gpus(&self, node: &str, gpus: u32) {
        let nodes: Api<Node> = Api::all(self.site.client.clone());
        let list = json!({"nvidia.com/gpu": gpus.to_string()});
        let patch = json!({"status": {"allocatable": list, "capacity": list}});
        nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    async fn scale(&self, miner: &str, replicas: u32) {
        let miners: Api<Miner> = self.site.namespaced();
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        miners.patch(miner, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn delete_jobs(&self, most: usize) {
        let jobs: Api<AiJob> = self.site.namespaced();
        for job in jobs.list(&ListParams::default()).await.unwrap().items.iter().take(most) {
            let name = job.metadata.name.as_deref().unwrap();
            let _ = jobs.delete(name, &DeleteParams::default()).await;
        }
    }

    /// Ends all faults.
    async fn restore(&self) {
        for replica in &self.controllers {
            replica.process().set_clock(0);
        }
        for replica in self.controllers.iter().chain([&self.auditor]) {
            replica.proxy.restore();
        }
        for number in 0..NODES {
            let node = format!("{}-{number:04}", self.site.name);
            self.site.control_plane.set_outage(&node, false).await.unwrap();
            self.set_gpus(&node, 8).await;
        }
        self.delete_jobs(usize::MAX).await;
        for miner in ["one", "two"] {
            self.scale(miner, 40).await;
        }
    }
}

/// The writes since a time, without those of Kubernetes itself.
fn writes_since(audit: &Path, from: jiff::Timestamp) -> Vec<String> {
    let text = std::fs::read_to_string(audit).unwrap();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = events.filter(|event| {
        let received = event["requestReceivedTimestamp"].as_str().unwrap_or_default();
        let agent = event["userAgent"].as_str().unwrap_or_default();
        !["kube-", "kwok"].iter().any(|name| agent.starts_with(name))
            && received.parse().is_ok_and(|received: jiff::Timestamp| received >= from)
    });
    ours.map(|event| {
        let [verb, uri, body] = [&event["verb"], &event["requestURI"], &event["requestObject"]];
        format!("{verb} {uri} {body}")
    })
    .collect()
}

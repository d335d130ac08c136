//! A small site of its own for each end-to-end test: nodes, a namespace, a pool, a registered miner,
//! Daylight's processes, and an observer of every pod.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "only tests use this: a panic is a failed test"
)]

pub mod observer;
pub mod pool;
pub mod program;
pub mod proxy;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};
use daylight_testbed::trials::{Fixture, Outcome, Shared, Trial, caught};
use daylight_testbed::{Component, ControlPlane, Nodes, Options};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::observer::Observer;
use crate::program::Process;
use crate::proxy::Proxy;

/// Daylight's own namespace.
pub const SYSTEM: &str = "daylight-system";
/// The user who approves registrations.
pub const OFFICER: &str = "officer@example.com";

/// Installs Daylight's definitions, and the objects that every test needs.
pub async fn install(control_plane: &ControlPlane) {
    let manifests = daylight_crds::definitions();
    let manifests = manifests.iter().map(|one| daylight_crds::manifest(one).unwrap());
    control_plane.apply(&manifests.collect::<Vec<_>>().join("---\n")).await.unwrap();
    let client = control_plane.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    create(&namespaces, json!({"metadata": {"name": SYSTEM}})).await;
    introduce(control_plane).await;
}

/// Creates the positive list, and gives the officer her rights.
pub async fn introduce(control_plane: &ControlPlane) {
    let classes: Api<ActivityClass> = Api::all(control_plane.client());
    for (name, spec) in [
        ("ai-training", json!({"category": "DataIndustry", "assignment": "Guaranteed"})),
        (
            "pow-mining",
            json!({
                "category": "Declared", "assignment": "IdleOnly", "registration": "Required",
                "rank": 100,
            }),
        ),
    ] {
        create(&classes, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    // The officer has more rights than her role would give.
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "officer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OFFICER}],
    });
    control_plane.apply(&binding.to_string()).await.unwrap();
}

/// Creates an object from JSON without kind and version.
pub async fn create<K>(api: &Api<K>, mut object: Value) -> K
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    let object: K = serde_json::from_value(object).unwrap();
    match api.create(&PostParams::default(), &object).await {
        Ok(object) => object,
        Err(error) => panic!("{} {}: {error}", K::kind(&()), object.name_any()),
    }
}

/// Waits until `look` returns a value; `what` names it in the failure.
pub async fn eventually<T, F, R>(within: Duration, what: &str, mut look: F) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Long enough for most events on a slow machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A test's site.
pub struct Site {
    pub control_plane: Arc<ControlPlane>,
    pub client: Client,
    /// The name of its namespace and its pool, and the prefix of its nodes.
    pub name: String,
    pub processes: Vec<Process>,
    pub observer: Observer,
    started: u32,
}

/// The control plane of all sites that are not on a real node.
static CONTROL_PLANE: Shared<Arc<ControlPlane>> = Shared::new(|| {
    Box::pin(async {
        // The garbage collector finds new kinds every 30 s only, so it starts when ours are there.
        let options = Options::full().without(Component::ControllerManager);
        let control_plane = ControlPlane::start(options).await?;
        install(&control_plane).await;
        control_plane.start_component(Component::ControllerManager).await?;
        Ok(Arc::new(control_plane))
    })
});

impl Fixture for Site {
    async fn lend(trial: &Trial, test: impl AsyncFnOnce(&mut Self) -> Outcome) -> Outcome {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let on = async |control_plane: &mut Arc<ControlPlane>| {
            let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
            let mut site = Self::new(control_plane.clone(), &trial.name(), number).await;
            let outcome = caught(test(&mut site)).await;
            site.end(outcome).await
        };
        CONTROL_PLANE.lend(on).await
    }
}

impl Site {
    /// A site for a test of this name; its objects are named `tNUMBER`.
    pub async fn new(control_plane: Arc<ControlPlane>, test: &str, number: u32) -> Self {
        let client = control_plane.client();
        clear(&client).await;
        let name = format!("t{number}");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        create(&namespaces, json!({"metadata": {"name": name, "annotations": {"test": test}}}))
            .await;
        let observer = Observer::start(client.clone());
        Self { control_plane, client, name, processes: Vec::new(), observer, started: 0 }
    }

    /// Ends the site's processes after a test, and checks what must hold at the end of each. Prints
    /// the end of the processes' logs where the test failed.
    pub async fn end(mut self, outcome: Outcome) -> Outcome {
        let logs = self.control_plane.directory().join("logs");
        let prefix = format!("{}-", self.name);
        let outcome = outcome
            .and(self.observer.check())
            .and_then(|()| program::check_no_panic(&logs, &prefix));
        if outcome.is_ok() {
            for process in self.processes.drain(..) {
                process.kill().await;
            }
        } else {
            program::show_logs(&logs, &prefix);
        }
        outcome
    }

    pub fn namespaced<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// `NAMESPACE/name`.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    /// `NAMESPACE-name`, for files.
    pub fn key_dash(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Starts a controller, and returns its place in `processes`.
    pub fn start(&mut self) -> usize {
        self.start_with(&[])
    }

    pub fn start_with(&mut self, flags: &[&str]) -> usize {
        self.started += 1;
        let name = format!("{}-controller-{}", self.name, self.started);
        self.processes.push(Process::controller(&self.control_plane, &name, flags));
        self.processes.len() - 1
    }

    /// Starts a controller that reaches the API server through a proxy.
    pub fn start_through(&mut self, proxy: &Proxy, flags: &[&str]) -> usize {
        let kubeconfig = proxy.kubeconfig.to_str().unwrap();
        self.start_with(&[&["--kubeconfig", kubeconfig], flags].concat())
    }

    /// Nodes of eight GPUs that belong to the site's pool.
    pub async fn nodes(&self, count: usize) -> Vec<String> {
        let nodes = Nodes::new(count).prefix(&self.name).label("site", &self.name);
        self.control_plane.create_nodes(&nodes).await.unwrap()
    }

    /// The pool of the site's nodes; `mining` is merged into `spec.mining`.
    pub async fn pool(&self, mining: Value) -> GpuPool {
        let mut spec = json!({
            "nodeSelector": {"matchLabels": {"site": self.name}},
            "resource": "nvidia.com/gpu",
            "site": {"name": "site-1"},
            "mining": {"policy": "Fill", "idleDelay": "0s", "drainTimeout": "10s"},
        });
        merge(&mut spec["mining"], mining);
        let pools = Api::all(self.client.clone());
        create(&pools, json!({"metadata": {"name": self.name}, "spec": spec})).await
    }

    /// Changes the pool.
    pub async fn edit_pool(&self, spec: Value) {
        let pools: Api<GpuPool> = Api::all(self.client.clone());
        let patch = json!({"spec": spec});
        pools.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// A registration for the pool that awaits a decision.
    pub async fn filed(&self, name: &str, limits: Value) -> Registration {
        self.filed_with(name, json!({"limits": limits})).await
    }

    /// A registration that awaits a decision; `spec` is merged into its spec.
    pub async fn filed_with(&self, name: &str, spec: Value) -> Registration {
        let mut object = json!({
            "metadata": {"name": name},
            "spec": {
                "operator": {"name": "Tenant"},
                "submittedBy": "tenant@example.com",
                "activityClass": "pow-mining", "site": "site-1", "pools": [self.name],
                "validFrom": "2020-01-01T00:00:00Z", "validUntil": "2099-01-01T00:00:00Z",
            },
        });
        merge(&mut object["spec"], spec);
        create(&self.namespaced(), object).await
    }

    /// Approves a registration as the officer would.
    pub fn approve(&self, name: &str) {
        self.approve_with(name, &[]);
    }

    /// Approves a registration, as it is displayed, with more flags.
    pub fn approve_with(&self, name: &str, flags: &[&str]) {
        let key = self.key(name);
        let approve = [&["approve", &key, "--as", OFFICER, "-o", "json"], flags].concat();
        let displayed = program::command(&self.control_plane, &approve);
        let review: Value = serde_json::from_slice(&displayed.stdout).unwrap();
        let digest = review["digest"].as_str().unwrap();
        self.daylight(&[&approve[..], &["--digest", digest]].concat());
    }

    /// A registration that is approved.
    pub async fn registered(&self, name: &str, limits: Value) {
        self.filed(name, limits).await;
        self.approve(name);
    }

    /// A miner of `replicas` with one GPU each; `spec` is merged into its spec.
    pub async fn miner(&self, name: &str, registration: &str, replicas: u32, spec: Value) -> Miner {
        let mut object = json!({
            "metadata": {
                "name": name, "annotations": {"daylight.dev/simulated-drain-time": "200ms"},
            },
            "spec": {
                "registration": registration, "replicas": replicas,
                "image": "registry.example.com/miners/kaspa:1", "drainTimeout": "5s",
                "wattsPerReplica": 300,
            },
        });
        merge(&mut object["spec"], spec);
        create(&self.namespaced(), object).await
    }

    /// A pool of `nodes` nodes, a registration without a tight limit, and a miner that takes all GPUs.
    /// Waits until all of them mine.
    pub async fn full_of_miners(&mut self, nodes: usize) {
        let gpus = nodes as u32 * 8;
        self.nodes(nodes).await;
        self.pool(json!({})).await;
        self.registered("reg", json!({"gpus": 100_000})).await;
        self.miner("miner", "reg", gpus, json!({})).await;
        self.start();
        self.wait_for_mining(gpus as usize).await;
    }

    /// An AI job whose workers run until they are deleted; `spec` is merged into its spec.
    pub async fn ai_job(&self, name: &str, workers: u32, gpus: u32, spec: Value) -> AiJob {
        let mut object = json!({
            "metadata": {"name": name},
            "spec": {
                "workers": workers, "activityClass": "ai-training",
                "template": {"spec": {"containers": [{
                    "name": "train", "image": "registry.example.com/train:1",
                    "resources": {"limits": {"nvidia.com/gpu": gpus.to_string()}},
                }]}},
            },
        });
        merge(&mut object["spec"], spec);
        create(&self.namespaced(), object).await
    }

    /// Runs a command of `daylight`, which must succeed.
    pub fn daylight(&self, arguments: &[&str]) -> String {
        program::command_ok(&self.control_plane, arguments)
    }

    /// The pods of the namespace with these labels.
    pub async fn pods(&self, labels: &str) -> Vec<Pod> {
        let api: Api<Pod> = self.namespaced();
        api.list(&ListParams::default().labels(labels)).await.unwrap().items
    }

    /// The running miners' pods.
    pub async fn mining(&self) -> Vec<Pod> {
        let mut pods = self.pods("daylight.dev/miner").await;
        pods.retain(|pod| is_running(pod) && pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Waits until exactly `count` of the site's miners' pods run.
    pub async fn wait_for_mining(&self, count: usize) {
        let what = format!("{count} miners' pods run");
        eventually(Duration::from_mins(1), &what, || async {
            (self.mining().await.len() == count).then_some(())
        })
        .await;
    }

    /// Waits until exactly `count` of them exist, including those that are stopping.
    pub async fn wait_until_settled(&self, count: usize) {
        self.wait_for_mining(count).await;
        eventually(SOON, "the others have stopped", || async {
            (self.pods("daylight.dev/miner").await.len() == count).then_some(())
        })
        .await;
        // The observer sees it a moment later.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    /// Waits until an object's status satisfies `holds`; `what` names it in the failure.
    pub async fn wait_for_status<K>(
        &self,
        api: Api<K>,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        self.wait_for_status_within(SOON, api, name, what, holds).await
    }

    pub async fn wait_for_status_within<K>(
        &self,
        within: Duration,
        api: Api<K>,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let mut last = Value::Null;
        let begun = Instant::now();
        loop {
            if let Some(object) = api.get_opt(name).await.unwrap() {
                last = serde_json::to_value(&object).unwrap()["status"].clone();
                if holds(&last) {
                    return last;
                }
            }
            assert!(begun.elapsed() < within, "{} {name}: not {what}: {last:#}", K::kind(&()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn wait_for_miner(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_for_status::<Miner>(self.namespaced(), name, what, holds).await
    }

    pub async fn wait_for_job(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_for_status::<AiJob>(self.namespaced(), name, what, holds).await
    }

    pub async fn wait_for_pool(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_status::<GpuPool>(Api::all(self.client.clone()), &self.name, what, holds)
            .await
    }
}

pub fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// Merges `patch` into `value`, as a JSON merge patch does.
fn merge(value: &mut Value, patch: Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (key, patch) in patch {
                merge(value.entry(key).or_insert(Value::Null), patch);
            }
        }
        (value, patch) => *value = patch,
    }
}

/// Removes the objects that the last test has left.
async fn clear(client: &Client) {
    let all = DeleteParams::default();
    let list = ListParams::default();
    let stops: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    let _ = stops.delete("daylight-emergency-stop", &all).await;
    let classes: Api<PriorityClass> = Api::all(client.clone());
    let _ = classes.delete("daylight-miner", &all).await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let _ = leases.delete("daylight-controller", &all).await;
    let pools: Api<GpuPool> = Api::all(client.clone());
    pools.delete_collection(&all, &list).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let nodes: Api<Node> = Api::all(client.clone());
    for namespace in namespaces.list(&list).await.unwrap() {
        if namespace.annotations().contains_key("test") {
            let name = namespace.name_any();
            let _ = namespaces.delete(&name, &all).await;
        }
    }
    nodes.delete_collection(&all, &list).await.unwrap();
    eventually(Duration::from_mins(1), "the last test's pods are gone", || async {
        let pods: Api<Pod> = Api::all(client.clone());
        let left = pods.list(&list).await.unwrap().items;
        for pod in &left {
            end_at_once(client, pod).await;
        }
        left.is_empty().then_some(())
    })
    .await;
}

/// Ends a pod of a former test. No auditor is left to record its end.
async fn end_at_once(client: &Client, pod: &Pod) {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
    if pod.metadata.finalizers.is_some() {
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let _ = pods.patch(&name, &PatchParams::default(), &none).await;
    }
}

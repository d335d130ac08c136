//! Tests that containers run on a real node next to simulated ones, and that it
//! leaves nothing behind.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use daylight_testbed::trials::{Outcome, Trials, apply, trial};
use daylight_testbed::{Component, ControlPlane, Nodes, Options, RealNode, isolate};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Makes this executable a test's child: it starts a control plane with a real
/// node and a pod on it, prints its directory and the node's process, and waits
/// to be killed.
const CHILD: &str = "DAYLIGHT_TESTBED_TEST_CHILD";
const NODE: &str = "real-0";
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        isolate().expect("a namespace");
        Runtime::new().expect("a runtime").block_on(child()).expect("a control plane");
        return ExitCode::FAILURE;
    }
    Trials::registered().after(isolate).sharing(|| Box::pin(start())).run()
}

async fn start() -> Outcome<ControlPlane> {
    let options = Options::full().with_real_node(RealNode::new(NODE));
    let control_plane = ControlPlane::start(options).await?;
    control_plane.create_nodes(&Nodes::new(1)).await?;
    Ok(control_plane)
}

// ---- what pods do --------------------------------------------------------

#[apply(trial!)]
async fn a_container_runs_and_gets_sigterm(control_plane: &ControlPlane) -> Outcome {
    let nodes: Api<Node> = Api::all(control_plane.client());
    let status = nodes.get(NODE).await?.status.unwrap_or_default();
    for resources in [status.capacity, status.allocatable] {
        assert_eq!(resources.unwrap_or_default()["nvidia.com/gpu"].0, "8");
    }

    let pods = pods(control_plane);
    create(&pods, pod("drained", 1, &["-drain", "2s"])).await?;
    let running = until(&pods, "drained", is("Running")).await?;
    let status = running.status.unwrap_or_default();
    assert!(status.pod_ip.is_some_and(|address| address.starts_with("10.89.")));
    assert_eq!(control_plane.kubectl_ok(["logs", "drained"]).await?, "started");

    let (took, end) = drain(&pods, "drained", 30).await?;
    within("the drain", took, 2000, 12_000);
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    Ok(())
}

#[apply(trial!)]
async fn a_drain_longer_than_the_grace_period_is_killed(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    create(&pods, pod("cut", 1, &["-drain", "1h"])).await?;
    until(&pods, "cut", is("Running")).await?;
    let (took, end) = drain(&pods, "cut", 2).await?;
    within("the drain", took, 2000, 12_000);
    assert_eq!(end.exit_code, 137);
    Ok(())
}

#[apply(trial!)]
async fn a_container_ends_by_itself(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    create(&pods, pod("broken", 1, &["-run", "1s", "-exit", "3"])).await?;
    let pod = until(&pods, "broken", is("Failed")).await?;
    assert_eq!(end(&pod).map(|end| end.exit_code), Some(3));
    pods.delete("broken", &DeleteParams::default()).await?;
    Ok(())
}

#[apply(trial!)]
async fn simulated_nodes_stay_simulated(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    let mut simulated = pod("simulated", 8, &[]);
    let spec = simulated.spec.as_mut().expect("a spec");
    spec.node_selector = Some([("kubernetes.io/hostname".into(), "node-0000".into())].into());
    simulated.metadata.annotations =
        Some([("daylight.dev/simulated-run-time".into(), "1s".into())].into());
    create(&pods, simulated).await?;
    until(&pods, "simulated", is("Succeeded")).await?;
    pods.delete("simulated", &DeleteParams::default()).await?;
    Ok(())
}

#[apply(trial!)]
async fn a_preempted_pod_stays_for_its_finalizer(control_plane: &ControlPlane) -> Outcome {
    let classes: Api<PriorityClass> = Api::all(control_plane.client());
    let low =
        serde_json::from_value(json!({ "metadata": { "name": "low" }, "value": -1_000_000 }))?;
    classes.create(&PostParams::default(), &low).await?;
    let pods = pods(control_plane);
    let mut miner = pod("miner", 8, &["-drain", "1s"]);
    miner.metadata.finalizers = Some(vec!["daylight.dev/metered".to_owned()]);
    miner.spec.as_mut().expect("a spec").priority_class_name = Some("low".to_owned());
    create(&pods, miner).await?;
    until(&pods, "miner", is("Running")).await?;

    let begun = Instant::now();
    create(&pods, pod("urgent", 8, &[])).await?;
    until(&pods, "urgent", is("Running")).await?;
    within("the preemption", begun.elapsed(), 1000, 15_000);

    let victim = until(&pods, "miner", is("Succeeded")).await?;
    assert!(end(&victim).is_some_and(|end| end.started_at.is_some() && end.finished_at.is_some()));
    let conditions = victim.status.and_then(|status| status.conditions).unwrap_or_default();
    let disrupted = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget");
    let reason = disrupted.and_then(|condition| condition.reason.as_deref());
    assert_eq!(reason, Some("PreemptionByScheduler"), "{conditions:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let uid = pods.get("miner").await?.metadata.uid;
    assert_eq!(uid, victim.metadata.uid);
    let release = json!({ "metadata": { "finalizers": null } });
    pods.patch("miner", &PatchParams::default(), &Patch::Merge(&release)).await?;
    gone(&pods, "miner").await?;
    drain(&pods, "urgent", 30).await?;
    Ok(())
}

#[apply(trial!)]
async fn a_node_that_lost_its_power_comes_back(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    create(&pods, pod("interrupted", 8, &[])).await?;
    until(&pods, "interrupted", is("Running")).await?;
    control_plane.kill_component(Component::Kubelet)?;
    control_plane.start_component(Component::Kubelet).await?;
    until(&pods, "interrupted", is("Failed")).await?;
    pods.delete("interrupted", &DeleteParams::default()).await?;
    gone(&pods, "interrupted").await?;
    create(&pods, pod("after", 8, &[])).await?;
    until(&pods, "after", is("Running")).await?;
    drain(&pods, "after", 30).await?;
    Ok(())
}

// ---- what is left --------------------------------------------------------

#[apply(trial!)]
async fn nothing_outlives_a_stop() -> Outcome {
    let control_plane = start().await?;
    let left = belongings(&control_plane).await?;
    control_plane.stop().await;
    assert_eq!(left.alive(), Vec::<String>::new());
    assert_eq!(left.control_groups(), Vec::<PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    assert!(!mounts.contains(&*left.directory.to_string_lossy()), "{mounts}");
    assert!(!left.directory.exists());
    Ok(())
}

/// Another process starts a control plane, and is killed. What no process can
/// remove then, the next control plane removes.
#[apply(trial!)]
async fn nothing_outlives_a_killed_parent() -> Outcome {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.env(CHILD, "1").stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let output = child.stdout.take().expect("its output").into_owned_fd()?;
    let line = tokio::task::spawn_blocking(|| BufReader::new(File::from(output)).lines().next());
    let line = line.await?.ok_or("the child has said nothing")??;
    let (node, directory) = line.split_once(' ').ok_or("a process and a directory")?;
    let left = Belongings { directory: directory.into(), processes: family(node.parse()?) };
    left.check();

    child.kill().await?;
    let begun = Instant::now();
    while !left.alive().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?} still run", left.alive());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let long_ago = SystemTime::now() - Duration::from_mins(2);
    File::options().write(true).open(left.directory.join("in-use"))?.set_modified(long_ago)?;
    ControlPlane::start(Options::api_server()).await?.stop().await;
    assert_eq!(left.control_groups(), Vec::<PathBuf>::new());
    assert!(!left.directory.exists());
    Ok(())
}

async fn child() -> Outcome {
    let control_plane = start().await?;
    let left = belongings(&control_plane).await?;
    let node = control_plane.process_id(Component::Kubelet).ok_or("a node")?;
    println!("{node} {}", left.directory.display());
    std::future::pending::<()>().await;
    Ok(())
}

/// The parts of a real node outside the process that started it.
struct Belongings {
    directory: PathBuf,
    processes: Vec<u32>,
}

/// Starts a pod, and returns the parts of the node.
async fn belongings(control_plane: &ControlPlane) -> Outcome<Belongings> {
    let pods = pods(control_plane);
    create(&pods, pod("left", 1, &[])).await?;
    until(&pods, "left", is("Running")).await?;
    let node = control_plane.process_id(Component::Kubelet).ok_or("a node")?;
    let left =
        Belongings { directory: control_plane.directory().to_owned(), processes: family(node) };
    left.check();
    Ok(left)
}

impl Belongings {
    /// That there is something that can be left behind.
    fn check(&self) {
        let alive = self.alive();
        for program in ["containerd", "containerd-shim", "kubelet", "/workload"] {
            assert!(alive.iter().any(|command| command.contains(program)), "{program}: {alive:?}");
        }
        assert_ne!(self.control_groups(), Vec::<PathBuf>::new());
    }

    /// The command lines of those that run. A zombie has none.
    fn alive(&self) -> Vec<String> {
        let command = |id: &u32| fs::read_to_string(format!("/proc/{id}/cmdline")).ok();
        self.processes.iter().filter_map(command).filter(|command| !command.is_empty()).collect()
    }

    fn control_groups(&self) -> Vec<PathBuf> {
        let name = self.directory.file_name().expect("a name");
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).expect("control groups").flatten();
        hierarchies
            .map(|hierarchy| hierarchy.path())
            .chain([root.to_owned()])
            .map(|hierarchy| hierarchy.join(name))
            .filter(|group| group.exists())
            .collect()
    }
}

/// A process and all its descendants.
fn family(id: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let children: Vec<u32> = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|ids| ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|id| id.parse().ok())
        .collect();
    [id].into_iter().chain(children.into_iter().flat_map(family)).collect()
}

// ---- for the tests -------------------------------------------------------

fn pods(control_plane: &ControlPlane) -> Api<Pod> {
    Api::default_namespaced(control_plane.client())
}

/// A pod for the real node.
fn pod(name: &str, gpus: u32, arguments: &[&str]) -> Pod {
    let pod: Value = json!({
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": { "kubernetes.io/hostname": NODE },
            "containers": [{
                "name": "main",
                "image": RealNode::IMAGE,
                "imagePullPolicy": "Never",
                "args": arguments,
                "resources": { "limits": { "nvidia.com/gpu": gpus.to_string() } },
            }],
        },
    });
    serde_json::from_value(pod).expect("a pod")
}

async fn create(pods: &Api<Pod>, pod: Pod) -> Outcome {
    pods.create(&PostParams::default(), &pod).await?;
    Ok(())
}

fn is(wanted: &'static str) -> impl Fn(Option<&Pod>) -> bool {
    move |pod| pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some(wanted)
}

fn end(pod: &Pod) -> Option<ContainerStateTerminated> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.terminated.clone()
}

fn within(what: &str, took: Duration, least: u64, most: u64) {
    let range = Duration::from_millis(least)..Duration::from_millis(most);
    assert!(range.contains(&took), "{what} took {took:?}, not {range:?}");
}

async fn until(pods: &Api<Pod>, name: &str, wanted: impl Fn(Option<&Pod>) -> bool) -> Outcome<Pod> {
    let wait = await_condition(pods.clone(), name, &wanted);
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(pod) => Ok(pod?.ok_or_else(|| format!("{name} is gone"))?),
        Err(_) => Err(format!("{name} is not as wanted: {:#?}", pods.get_opt(name).await?).into()),
    }
}

async fn gone(pods: &Api<Pod>, name: &str) -> Outcome {
    let gone = await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_none());
    tokio::time::timeout(PATIENCE, gone).await.map_err(|_| format!("{name} is still there"))??;
    Ok(())
}

/// Deletes a pod. Returns how long it went on, and how its container ended.
async fn drain(
    pods: &Api<Pod>,
    name: &str,
    grace: u32,
) -> Outcome<(Duration, ContainerStateTerminated)> {
    let ended = |pod: Option<&Pod>| pod.is_none_or(|pod| end(pod).is_some());
    let ended = await_condition(pods.clone(), name, ended);
    let begun = Instant::now();
    pods.delete(name, &DeleteParams::default().grace_period(grace)).await?;
    let last = tokio::time::timeout(PATIENCE, ended).await??;
    gone(pods, name).await?;
    let end = last.as_ref().and_then(end).ok_or_else(|| format!("{name} went while it ran"))?;
    Ok((begun.elapsed(), end))
}

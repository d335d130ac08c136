//! Tests that the testbed is a real Kubernetes, does as its annotations say, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use daylight_testbed::trials::{Outcome, Trials, apply, trial};
use daylight_testbed::{Component, ControlPlane, Nodes, Options, Programs};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Node, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Makes this executable a test's child: it starts a control plane, prints
/// what belongs to it, and waits to be killed.
const CHILD: &str = "DAYLIGHT_TESTBED_TEST_CHILD";
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Ok(components) = std::env::var(CHILD) {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(child(&components)).expect("a control plane");
        return ExitCode::FAILURE;
    }
    Trials::registered().sharing(|| Box::pin(start())).run()
}

async fn start() -> Outcome<ControlPlane> {
    let control_plane = ControlPlane::start(Options::full()).await?;
    control_plane.create_nodes(&Nodes::new(2)).await?;
    Ok(control_plane)
}

// ---- what pods do --------------------------------------------------------

#[apply(trial!)]
async fn a_pod_runs_by_way_of_the_real_scheduler(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    pods.create(&PostParams::default(), &pod("plain", json!({}))).await?;
    let pod = until(&pods, "plain", is("Running")).await?;
    let status = pod.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        assert!(conditions.iter().any(|c| c.type_ == kind && c.status == "True"), "{conditions:?}");
    }
    assert!(
        pod.spec.and_then(|spec| spec.node_name).is_some_and(|node| node.starts_with("node-000"))
    );
    assert!(status.pod_ip.is_some() && status.start_time.is_some());
    delete(&pods, "plain").await
}

#[apply(trial!)]
async fn a_run_time_ends_a_pod(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    let annotations = json!({ "daylight.dev/simulated-run-time": "1500ms" });
    let begun = Instant::now();
    pods.create(&PostParams::default(), &pod("brief", annotations)).await?;
    until(&pods, "brief", is("Running")).await?;
    let pod = until(&pods, "brief", is("Succeeded")).await?;
    within("its run time", begun.elapsed(), 1500, 7500);
    let end = end(&pod);
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    assert!(end.started_at.is_some() && end.started_at < end.finished_at);
    delete(&pods, "brief").await
}

#[apply(trial!)]
async fn an_exit_code_fails_a_pod(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    let annotations = json!({
        "daylight.dev/simulated-run-time": "0s",
        "daylight.dev/simulated-exit": "3",
    });
    pods.create(&PostParams::default(), &pod("broken", annotations)).await?;
    let pod = until(&pods, "broken", is("Failed")).await?;
    assert_eq!(end(&pod).exit_code, 3);
    delete(&pods, "broken").await
}

#[apply(trial!)]
async fn a_job_completes(control_plane: &ControlPlane) -> Outcome {
    let jobs: Api<Job> = Api::default_namespaced(control_plane.client());
    let job = serde_json::from_value(json!({
        "metadata": { "name": "job" },
        "spec": {
            "completions": 4, "parallelism": 4, "completionMode": "Indexed",
            "template": {
                "metadata": { "annotations": { "daylight.dev/simulated-run-time": "1s" } },
                "spec": template("Never"),
            },
        },
    }))?;
    jobs.create(&PostParams::default(), &job).await?;
    until(&jobs, "job", |job: Option<&Job>| {
        job.and_then(|job| job.status.as_ref()).and_then(|status| status.succeeded) == Some(4)
    })
    .await?;
    jobs.delete("job", &DeleteParams::background()).await?;
    Ok(())
}

#[apply(trial!)]
async fn an_active_deadline_ends_a_pod(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    let mut late = pod("late", json!({ "daylight.dev/simulated-run-time": "1h" }));
    late.spec.as_mut().expect("a spec").active_deadline_seconds = Some(1);
    let begun = Instant::now();
    pods.create(&PostParams::default(), &late).await?;
    until(&pods, "late", is("Running")).await?;
    let pod = until(&pods, "late", is("Failed")).await?;
    within("its deadline", begun.elapsed(), 1000, 7000);
    assert_eq!(pod.status.and_then(|status| status.reason).as_deref(), Some("DeadlineExceeded"));
    delete(&pods, "late").await
}

#[apply(trial!)]
async fn a_drained_pod_is_terminal_before_it_is_gone(control_plane: &ControlPlane) -> Outcome {
    let annotations = json!({ "daylight.dev/simulated-drain-time": "2s" });
    let (took, last) = drain(control_plane, pod("drained", annotations), 30).await?;
    within("the drain", took, 2000, 8000);
    let end = end(&last);
    assert_eq!((phase(&last), end.exit_code), (Some("Succeeded"), 0));
    assert!(end.finished_at.is_some());
    Ok(())
}

#[apply(trial!)]
async fn a_drain_longer_than_the_grace_period_is_killed(control_plane: &ControlPlane) -> Outcome {
    let annotations = json!({ "daylight.dev/simulated-drain-time": "10s" });
    let (took, last) = drain(control_plane, pod("cut", annotations), 1).await?;
    within("the drain", took, 1000, 7000);
    assert_eq!((phase(&last), end(&last).exit_code), (Some("Failed"), 137));
    Ok(())
}

#[apply(trial!)]
async fn a_pod_that_ignores_sigterm_has_failed(control_plane: &ControlPlane) -> Outcome {
    let (took, last) = drain(control_plane, pod("deaf", json!({})), 30).await?;
    within("the drain", took, 0, 6000);
    assert_eq!((phase(&last), end(&last).exit_code), (Some("Failed"), 143));
    Ok(())
}

#[apply(trial!)]
async fn a_drain_goes_on_while_the_pod_changes(control_plane: &ControlPlane) -> Outcome {
    let annotations = json!({ "daylight.dev/simulated-drain-time": "4s" });
    let pods = pods(control_plane);
    let changes = async {
        for number in 0..6 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let label = json!({ "metadata": { "labels": { "number": number.to_string() } } });
            // It may not be there yet, or no more.
            let _ = pods.patch("changing", &PatchParams::default(), &Patch::Merge(&label)).await;
        }
    };
    let (drained, ()) =
        tokio::join!(drain(control_plane, pod("changing", annotations), 30), changes);
    // It would have taken 5.8 s if the last change had started it again.
    within("the drain", drained?.0, 4000, 5700);
    Ok(())
}

#[apply(trial!)]
async fn finalizers_hold_a_pod_that_has_ended(control_plane: &ControlPlane) -> Outcome {
    let pods = pods(control_plane);
    let mut held = pod("held", json!({ "daylight.dev/simulated-drain-time": "0s" }));
    held.metadata.finalizers = Some(vec!["daylight.dev/test".to_owned()]);
    pods.create(&PostParams::default(), &held).await?;
    until(&pods, "held", is("Running")).await?;
    pods.delete("held", &DeleteParams::default()).await?;
    let pod = until(&pods, "held", is("Succeeded")).await?;
    assert!(end(&pod).finished_at.is_some());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pods.get("held").await?.finalizers(), ["daylight.dev/test"]);
    let release = json!({ "metadata": { "finalizers": null } });
    pods.patch("held", &PatchParams::default(), &Patch::Merge(&release)).await?;
    until_gone(&pods, "held").await?;
    Ok(())
}

#[apply(trial!)]
async fn a_higher_priority_preempts(control_plane: &ControlPlane) -> Outcome {
    let classes: Api<PriorityClass> = Api::all(control_plane.client());
    let low = serde_json::from_value(json!({ "metadata": { "name": "low" }, "value": -1000 }))?;
    classes.create(&PostParams::default(), &low).await?;
    let pods = pods(control_plane);
    for number in 0..16 {
        let mut miner = pod(&format!("miner-{number}"), json!({}));
        miner.spec.as_mut().expect("a spec").priority_class_name = Some("low".to_owned());
        pods.create(&PostParams::default(), &miner).await?;
    }
    for number in 0..16 {
        until(&pods, &format!("miner-{number}"), is("Running")).await?;
    }
    pods.create(&PostParams::default(), &pod("urgent", json!({}))).await?;
    until(&pods, "urgent", is("Running")).await?;
    // The victim may still be there: a GPU is free as soon as its pod has
    // ended.
    let left = pods.list(&ListParams::default()).await?;
    let running = left.iter().filter(|pod| pod.name_any() != "urgent" && is("Running")(Some(pod)));
    assert_eq!(running.count(), 15);
    control_plane.kubectl_ok(["delete", "pods", "--all"]).await?;
    Ok(())
}

// ---- what else there is --------------------------------------------------

#[apply(trial!)]
async fn a_node_without_its_kubelet_is_frozen(control_plane: &ControlPlane) -> Outcome {
    let names = control_plane.create_nodes(&Nodes::new(1).prefix("lost")).await?;
    let pods = pods(control_plane);
    let mut stranded = pod("stranded", json!({ "daylight.dev/simulated-drain-time": "0s" }));
    stranded.spec.as_mut().expect("a spec").node_name = Some(names[0].clone());
    pods.create(&PostParams::default(), &stranded).await?;
    until(&pods, "stranded", is("Running")).await?;

    control_plane.set_outage(&names[0], true).await?;
    let nodes: Api<Node> = Api::all(control_plane.client());
    let tainted = |node: Option<&Node>| {
        let taints = node.and_then(|node| node.spec.as_ref()?.taints.as_ref());
        taints.is_some_and(|taints| taints.iter().any(|t| t.key == "node.kubernetes.io/not-ready"))
    };
    until(&nodes, &names[0], tainted).await?;
    pods.delete("stranded", &DeleteParams::default()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(phase(&pods.get("stranded").await?), Some("Running"));

    control_plane.set_outage(&names[0], false).await?;
    until_gone(&pods, "stranded").await?;
    until(&nodes, &names[0], |node| node.is_some() && !tainted(node)).await?;
    nodes.delete(&names[0], &DeleteParams::default()).await?;
    Ok(())
}

#[apply(trial!)]
async fn kubectl_and_helm_run(control_plane: &ControlPlane) -> Outcome {
    let version: Value =
        serde_json::from_str(&control_plane.kubectl_ok(["version", "-o", "json"]).await?)?;
    assert_eq!(version["clientVersion"]["gitVersion"], version["serverVersion"]["gitVersion"]);

    let manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: applied}}";
    assert_eq!(control_plane.apply(manifest).await?, "configmap/applied created");
    assert_eq!(control_plane.apply(manifest).await?, "configmap/applied unchanged");
    assert!(!control_plane.kubectl(["get", "configmap", "missing"]).await?.status.success());
    let error =
        control_plane.kubectl_ok(["get", "configmap", "missing"]).await.expect_err("a refusal");
    assert!(error.to_string().contains("`kubectl get configmap missing` failed"), "{error}");

    // A plugin is found on the PATH, by way of the kubectl that is there.
    let plugin = control_plane.directory().join("kubectl-hello");
    std::fs::write(&plugin, "#!/bin/sh\nkubectl get configmap applied -o name\n")?;
    std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = [control_plane.tools(), control_plane.directory().to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&inherited));
    let output = Command::new(control_plane.tools().join("kubectl"))
        .arg("hello")
        .envs(control_plane.environment())
        .env("PATH", std::env::join_paths(path)?)
        .output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "configmap/applied\n", "{output:?}");

    let charts = control_plane.directory().join("charts");
    std::fs::create_dir_all(charts.join("small/templates"))?;
    std::fs::write(
        charts.join("small/Chart.yaml"),
        "{apiVersion: v2, name: small, version: 1.0.0}",
    )?;
    std::fs::write(
        charts.join("small/templates/map.yaml"),
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}'}}",
    )?;
    let chart = charts.join("small");
    control_plane.helm_ok(["install".as_ref(), "by-helm".as_ref(), chart.as_os_str()]).await?;
    control_plane.kubectl_ok(["get", "configmap", "by-helm"]).await?;
    Ok(())
}

#[apply(trial!)]
async fn users_have_the_rights_that_roles_give_them(control_plane: &ControlPlane) -> Outcome {
    let client = control_plane.client_for("somebody").await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    match pods.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

#[apply(trial!)]
async fn the_api_server_restarts_under_load() -> Outcome {
    let control_plane = ControlPlane::start(Options::full()).await?;
    control_plane.create_nodes(&Nodes::new(25)).await?;
    let pods = pods(&control_plane);
    let create = async {
        stream::iter(0..200)
            .map(async |number| {
                let pod = pod(&format!("load-{number}"), json!({}));
                let begun = Instant::now();
                loop {
                    match pods.create(&PostParams::default(), &pod).await {
                        Ok(_) => return,
                        Err(kube::Error::Api(status)) if status.code == 409 => return,
                        Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .buffer_unordered(8)
            .collect::<Vec<()>>()
            .await;
    };
    let restart = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        control_plane.restart_api_server().await
    };
    let ((), restarted) = tokio::join!(create, restart);
    restarted?;
    let begun = Instant::now();
    let running = ListParams::default().fields("status.phase=Running");
    loop {
        match pods.list_metadata(&running).await?.items.len() {
            200 => break,
            some => assert!(begun.elapsed() < PATIENCE, "{some} of 200 pods are running"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    control_plane.stop().await;
    Ok(())
}

#[apply(trial!)]
async fn components_stop_and_start() -> Outcome {
    let control_plane = ControlPlane::start(Options::full()).await?;
    control_plane.create_nodes(&Nodes::new(1)).await?;
    let pods = pods(&control_plane);
    for component in [Component::Scheduler, Component::Kwok, Component::ControllerManager] {
        control_plane.stop_component(component).await?;
        let again = control_plane.stop_component(component).await.expect_err("a refusal");
        assert_eq!(again.to_string(), format!("{component} is not running"));
    }
    pods.create(&PostParams::default(), &pod("waiting", json!({}))).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(phase(&pods.get("waiting").await?), Some("Pending"));
    for component in [Component::Scheduler, Component::Kwok, Component::ControllerManager] {
        control_plane.start_component(component).await?;
    }
    until(&pods, "waiting", is("Running")).await?;
    control_plane.kill_component(Component::ApiServer)?;
    control_plane.start_component(Component::ApiServer).await?;
    pods.get("waiting").await?;
    Ok(())
}

#[apply(trial!)]
async fn a_wrong_flag_is_said() -> Outcome {
    let options = Options::api_server().flag(Component::ApiServer, "--no-such-flag");
    let error = ControlPlane::start(options).await.expect_err("a refusal").to_string();
    assert!(error.contains("kube-apiserver ended") && error.contains("no-such-flag"), "{error}");
    Ok(())
}

// ---- what is left --------------------------------------------------------

#[apply(trial!)]
async fn nothing_outlives_a_stop() -> Outcome {
    let options = Options::full().feature_gate(Component::ApiServer, "WatchList", false);
    let control_plane = ControlPlane::start(options).await?;
    let left = Belongings::of(&control_plane);
    assert_eq!(left.processes.len(), 5);
    let begun = Instant::now();
    control_plane.stop().await;
    within("stopping", begun.elapsed(), 0, 6000);
    assert_eq!(left.alive(), Vec::<u32>::new());
    assert!(!left.directory.exists());
    Ok(())
}

#[apply(trial!)]
async fn nothing_outlives_a_panic() -> Outcome {
    let control_plane = ControlPlane::start(Options::api_server()).await?;
    let left = Belongings::of(&control_plane);
    let panicked = tokio::spawn(async move {
        let _held = control_plane;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicked.await.is_err());
    assert_eq!(left.alive(), Vec::<u32>::new());
    assert!(!left.directory.exists());
    Ok(())
}

/// Another process starts a control plane, and is killed. With `assets`, one
/// of etcd, kube-apiserver and kubectl alone, as Kubebuilder has them.
#[apply(trial!)]
async fn nothing_outlives_a_killed_parent() -> Outcome {
    nothing_outlives_a_kill(false).await
}

#[apply(trial!)]
async fn kubebuilder_assets_will_do() -> Outcome {
    nothing_outlives_a_kill(true).await
}

async fn nothing_outlives_a_kill(assets: bool) -> Outcome {
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.env(CHILD, if assets { "api" } else { "full" }).stdout(Stdio::piped());
    if assets {
        let Programs::Binary(binary) =
            tokio::task::spawn_blocking(|| Programs::find(Component::ALL)).await??
        else {
            return Err("no binary".into());
        };
        for program in ["etcd", "kube-apiserver", "kubectl"] {
            symlink(&binary, directory.path().join(program))?;
        }
        command.env_remove("DAYLIGHT_TESTBED").env("KUBEBUILDER_ASSETS", directory.path());
    }
    let mut child = Killed(command.spawn()?);
    let line = BufReader::new(child.0.stdout.take().expect("its output"))
        .lines()
        .next()
        .ok_or("the child has said nothing")??;
    let left = Belongings::parse(&line);
    assert_eq!(left.processes.len(), if assets { 6 } else { 5 });
    assert_eq!(left.alive().len(), left.processes.len());

    drop(child);
    let begun = Instant::now();
    while !left.alive().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} still run", left.alive());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Its files are removed by the next control plane, in time.
    std::fs::remove_dir_all(&left.directory)?;
    Ok(())
}

/// A process that gets SIGKILL when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn child(components: &str) -> Outcome {
    let options = if components == "api" { Options::api_server() } else { Options::full() };
    let control_plane = ControlPlane::start(options).await?;
    control_plane.kubectl_ok(["get", "namespaces"]).await?;
    println!("{}", Belongings::of(&control_plane));
    std::future::pending::<()>().await;
    Ok(())
}

/// The parts of a control plane outside the process that started it.
struct Belongings {
    directory: PathBuf,
    processes: Vec<u32>,
}

impl Belongings {
    fn of(control_plane: &ControlPlane) -> Self {
        let started: Vec<u32> =
            Component::ALL.into_iter().filter_map(|c| control_plane.process_id(c)).collect();
        // A program that ignores its standard input is a shell's child, and so is
        // the one that watches it.
        let children = started.iter().flat_map(|parent| children(*parent));
        let processes = started.iter().copied().chain(children).collect();
        Self { directory: control_plane.directory().to_owned(), processes }
    }

    fn parse(line: &str) -> Self {
        let (processes, directory) = line.split_once(' ').expect("processes and a directory");
        Self {
            directory: directory.into(),
            processes: processes.split(',').map(|id| id.parse().expect("an id")).collect(),
        }
    }

    fn alive(&self) -> Vec<u32> {
        // A process whose parent has not waited for its end is a zombie, without
        // arguments.
        self.processes.iter().copied().filter(|id| !arguments(*id).is_empty()).collect()
    }
}

impl std::fmt::Display for Belongings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<String> = self.processes.iter().map(u32::to_string).collect();
        write!(f, "{} {}", ids.join(","), self.directory.display())
    }
}

fn arguments(id: u32) -> String {
    std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default()
}

fn children(id: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

// ---- for the tests -------------------------------------------------------

fn pods(control_plane: &ControlPlane) -> Api<Pod> {
    Api::default_namespaced(control_plane.client())
}

fn template(restart_policy: &str) -> Value {
    json!({
        "restartPolicy": restart_policy,
        "containers": [{
            "name": "main",
            "image": "main",
            "resources": { "limits": { "nvidia.com/gpu": "1" } },
        }],
    })
}

fn pod(name: &str, annotations: Value) -> Pod {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": template("Never"),
    }))
    .expect("a pod");
    let annotations: BTreeMap<String, String> =
        serde_json::from_value(annotations).expect("annotations");
    pod.metadata.annotations = Some(annotations);
    pod
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn is(wanted: &'static str) -> impl Fn(Option<&Pod>) -> bool {
    move |pod| pod.and_then(phase) == Some(wanted)
}

fn end(pod: &Pod) -> ContainerStateTerminated {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref()?.first()?.state.as_ref())
        .and_then(|state| state.terminated.clone())
        .expect("a container that has ended")
}

fn within(what: &str, took: Duration, least: u64, most: u64) {
    let range = Duration::from_millis(least)..Duration::from_millis(most);
    assert!(range.contains(&took), "{what} took {took:?}, not {range:?}");
}

/// The object as soon as it is as wanted, or its last state if it is gone.
async fn until<K>(
    api: &Api<K>,
    name: &str,
    wanted: impl Fn(Option<&K>) -> bool,
) -> Result<K, Box<dyn std::error::Error>>
where
    K: kube::Resource + Clone + Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut last: Option<K> = None;
    let watch = async {
        let mut objects =
            std::pin::pin!(watcher::watch_object(api.clone(), name).default_backoff());
        while let Some(object) = objects.try_next().await? {
            let done = wanted(object.as_ref());
            last = object.or(last.take());
            if done {
                break;
            }
        }
        Ok::<_, watcher::Error>(())
    };
    let result = tokio::time::timeout(PATIENCE, watch).await;
    match (result, last) {
        (Ok(watched), Some(last)) => watched.map(|()| last).map_err(Into::into),
        (Ok(watched), None) => Err(format!("{name} was never there: {watched:?}").into()),
        (Err(_), last) => Err(format!("{name} is not as wanted in time: {last:#?}").into()),
    }
}

async fn until_gone(pods: &Api<Pod>, name: &str) -> Outcome {
    let gone =
        kube::runtime::wait::await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_none());
    tokio::time::timeout(PATIENCE, gone).await??;
    Ok(())
}

/// Runs the pod and deletes it. Returns how long it went on, and how it was
/// seen last, which must be in a terminal phase.
async fn drain(
    control_plane: &ControlPlane,
    pod: Pod,
    grace: u32,
) -> Result<(Duration, Pod), Box<dyn std::error::Error>> {
    let (pods, name) = (pods(control_plane), pod.name_any());
    pods.create(&PostParams::default(), &pod).await?;
    until(&pods, &name, is("Running")).await?;
    let gone = Box::pin(until(&pods, &name, |pod| pod.is_none()));
    let delete = async {
        // After the watch has begun.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let parameters =
            DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
        let begun = Instant::now();
        pods.delete(&name, &parameters).await.map(|_| begun)
    };
    let (last, begun) = tokio::join!(gone, delete);
    let (last, begun) = (last?, begun?);
    assert!(matches!(phase(&last), Some("Succeeded" | "Failed")), "last seen {:?}", phase(&last));
    Ok((begun.elapsed(), last))
}

async fn delete(pods: &Api<Pod>, name: &str) -> Outcome {
    pods.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

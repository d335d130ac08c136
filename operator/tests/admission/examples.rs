//! The shipped examples run while the positive list is enforced, applied by the people for whom they are
//! written, with no other rights than `examples/05-access.yaml` gives them.

use std::path::Path;
use std::time::{Duration, Instant};

use daylight_testbed::Nodes;
use daylight_testbed::trials::{apply, trial};

use crate::cluster::{CONTROLLER, Cluster, classes, registrations};
use crate::process::{Process, command};

/// Maximum time for what Daylight and Kubernetes do.
const SOON: Duration = Duration::from_mins(1);

/// A person, as flags of `kubectl` and `daylight`.
type Person = [&'static str; 4];

const TENANT: Person = ["--as", "alice@tenant-a.example", "--as-group", "tenant-a"];
const ENGINEER: Person = ["--as", "erin@example.com", "--as-group", "ai-team"];
const OFFICER: Person = ["--as", "olga@example.com", "--as-group", "compliance"];
const AUDITOR: Person = ["--as", "rita@regulator.example", "--as-group", "auditors"];
const STRANGER: Person = ["--as", "mallory@example.com", "--as-group", "strangers"];

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    path.to_str().unwrap().to_owned()
}

async fn apply_as(cluster: &Cluster, person: &[&str], file: &str) {
    let file = example(file);
    let arguments = [&["apply", "-f", &file], person].concat();
    cluster.control_plane.kubectl_ok(arguments).await.unwrap();
}

/// Runs `daylight`, and returns its standard output and standard error.
async fn daylight(cluster: &Cluster, arguments: &[&str]) -> (bool, String, String) {
    let output = command(&cluster.control_plane.environment(), arguments).await;
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.success(), out, error)
}

/// Waits until what `kubectl get` prints is as wanted.
async fn until(cluster: &Cluster, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let arguments = [&["get"], arguments].concat();
        let text = cluster.control_plane.kubectl_ok(arguments.clone()).await.unwrap();
        if wanted(&text) {
            return text;
        }
        assert!(begun.elapsed() < SOON, "{arguments:?}: {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[apply(trial!)]
async fn the_examples_run_as_the_people_they_are_for(cluster: &Cluster) {
    let nodes = Nodes::new(12).prefix("example").label("nvidia.com/gpu.present", "true");
    cluster.control_plane.create_nodes(&nodes).await.unwrap();
    for file in ["00-namespaces", "05-access", "10-activity-classes", "20-gpu-pool"] {
        apply_as(cluster, &[], &format!("{file}.yaml")).await;
    }
    let flags = ["controller", "--as", CONTROLLER, "--lease-duration", "3s", "--lease-renew", "1s"];
    let controller = Process::start(
        &cluster.control_plane,
        "examples",
        &[&flags[..], &["--request-timeout", "500ms"]].concat(),
    );
    apply_as(cluster, &TENANT, "30-registration.yaml").await;
    let registration =
        ["registrations", "-n", "tenant-a", "kaspa", "-o", "jsonpath={.status.state}"];
    until(cluster, &[&registration[..], &TENANT].concat(), |state| state == "Pending").await;
    // The tenant may not approve, the officer sees what she approves, and may not file.
    let approve = ["approve", "kaspa", "-n", "tenant-a", "--generation", "1", "-o", "json"];
    let (done, _, error) = daylight(cluster, &[&approve[..], &TENANT].concat()).await;
    assert!(!done && error.contains(r#""code":"Forbidden""#), "{error}");
    let (done, out, error) = daylight(cluster, &[&["status"], &OFFICER[..]].concat()).await;
    assert!(done && out.contains("registration/tenant-a/kaspa"), "{out}{error}");
    assert!(out.contains("Left out, since you may not list them: pods, nodes"), "{out}");
    let (done, _, error) = daylight(cluster, &[&approve[..], &OFFICER].concat()).await;
    assert!(done, "{error}");
    until(cluster, &[&registration[..], &TENANT].concat(), |state| state == "Active").await;

    // With an engine each, they would mine as soon as the pool fills.
    for (engine, name) in [("xmrig", "monero"), ("lolminer", "etc")] {
        for file in ["registration", "miner"] {
            apply_as(cluster, &TENANT, &format!("miner-images/{engine}/{file}.yaml")).await;
        }
        let approve = ["approve", name, "-n", "tenant-a", "--generation", "1"];
        let (done, _, error) = daylight(cluster, &[&approve[..], &OFFICER].concat()).await;
        assert!(done, "{error}");
        let reason = ["miner", "-n", "tenant-a", name, "-o", "jsonpath={.status.reason}"];
        until(cluster, &[&reason[..], &TENANT].concat(), |reason| reason == "PoolObserves").await;
    }

    // Work without GPUs: refused until its registration is in force.
    for (file, name, label) in [
        ("60-validator.yaml", "validators", "app=validator"),
        ("70-storage-node.yaml", "storage", "app=storage-node"),
    ] {
        apply_as(cluster, &TENANT, file).await;
        let pods = ["pods", "-n", "tenant-a", "-l", label, "-o", "name"];
        assert_eq!(until(cluster, &pods, |_| true).await, "", "{name} is not approved");
        let approve = ["approve", name, "-n", "tenant-a", "--generation", "1"];
        let (done, _, error) = daylight(cluster, &[&approve[..], &OFFICER].concat()).await;
        assert!(done, "{error}");
        let used = ["registrations", "-n", "tenant-a", name, "-o", "jsonpath={.status.state}"];
        until(cluster, &[&used[..], &TENANT].concat(), |state| state == "Active").await;
        until(cluster, &pods, |pods| !pods.is_empty()).await;
    }

    apply_as(cluster, &TENANT, "40-miner.yaml").await;
    let fill = r#"{"spec":{"mining":{"policy":"Fill","idleDelay":"0s"}}}"#;
    let fill = ["patch", "gpupool", "frankfurt", "--type", "merge", "-p", fill];
    cluster.control_plane.kubectl_ok(fill).await.unwrap();
    let miner = ["miner", "-n", "tenant-a", "kaspa", "-o", "jsonpath={.status.readyReplicas}"];
    until(cluster, &[&miner[..], &TENANT].concat(), |ready| {
        ready.parse::<u32>().unwrap_or_default() > 0
    })
    .await;

    apply_as(cluster, &ENGINEER, "50-ai-jobs.yaml").await;
    let jobs = ["aijobs", "-n", "ai-team", "-o", "jsonpath={.items[*].status.state}"];
    until(cluster, &[&jobs[..], &ENGINEER].concat(), |states| states == "Running Running Running")
        .await;

    // Each sees their own namespace without naming it twice, the auditor all, a stranger nothing.
    let status = ["status", "-n", "tenant-a"];
    let (done, out, error) = daylight(cluster, &[&status[..], &TENANT].concat()).await;
    assert!(done && error.is_empty(), "{error}");
    assert!(out.contains("Namespace tenant-a only.\n"), "{out}");
    assert!(out.contains("miner/tenant-a/kaspa") && out.contains("frankfurt"), "{out}");
    let (done, out, error) = daylight(cluster, &[&["status", "-A"], &AUDITOR[..]].concat()).await;
    assert!(done && out.contains("aijob/ai-team/pretrain"), "{out}{error}");
    let (done, _, error) = daylight(cluster, &[&status[..], &STRANGER].concat()).await;
    assert!(!done && error.contains("You may not list registrations"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");

    // What `kubectl get` and `daylight why` say of the pool, `daylight status` says, too.
    let pool = ["gpupool", "frankfurt", "-o", "jsonpath={.status.message}"];
    let message = until(cluster, &pool, |message| !message.is_empty()).await;
    for arguments in [&["status"][..], &["why", "gpupool", "frankfurt"]] {
        let (_, out, error) = daylight(cluster, arguments).await;
        assert!(out.contains(&message), "{message}\n{out}{error}");
    }

    controller.end().await;
    clear_up(cluster).await;
}

/// Removes what other tests do not expect.
async fn clear_up(cluster: &Cluster) {
    for arguments in [
        &["delete", "aijobs,miners,registrations", "--all", "-n", "ai-team", "--wait=false"][..],
        &[
            "delete",
            "miners,registrations",
            "kaspa",
            "monero",
            "etc",
            "validators",
            "storage",
            "--ignore-not-found",
            "-n",
            "tenant-a",
            "--wait=false",
        ],
        &[
            "delete",
            "statefulset/validator",
            "deployment/storage-node",
            "pvc/storage-node",
            "-n",
            "tenant-a",
        ],
        &["delete", "pods", "-A", "-l", "daylight.dev/pool=frankfurt", "--force"],
        &["delete", "gpupool", "frankfurt"],
        &["delete", "activityclasses", "--all"],
        &["delete", "nodes", "-l", "nvidia.com/gpu.present=true"],
        &["label", "namespace", "tenant-a", "pod-security.kubernetes.io/enforce-"],
        &["delete", "clusterrolebinding", "daylight-site-view", "compliance", "auditors"],
    ] {
        cluster.control_plane.kubectl_ok(arguments.iter().copied()).await.unwrap();
    }
    cluster.control_plane.apply(include_str!("people.yaml")).await.unwrap();
    cluster.lists(&registrations(), &classes()).await;
}

//! Daylight's account has the rights that the controller uses, and no others.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use daylight_testbed::Nodes;
use serde_json::{Value, json};

use crate::cluster::{CONTROLLER, Cluster, OFFICER, SYSTEM, classes, registrations};
use crate::request::Change;

/// A verb on a resource, such as `create pods/eviction` or `patch daylight.dev/miners/status`.
type Right = String;

/// Rights that this story has no use for, each with what they are there for.
const ELSEWHERE: [(&str, &str); 4] = [
    (
        "assign daylight.dev/activityclasses",
        "asked for by the policies, when it creates a miner's pod",
    ),
    (
        "patch batch/jobs/status",
        "takes a Job's start time away on Kubernetes before 1.35, to change where it runs",
    ),
    ("get pods", "looks what became of a miner's pod when the answer to its creation is lost"),
    ("list", "where the API server does not stream lists, and a new leader's list with quorum"),
];

pub(crate) async fn every_right_of_the_controller_is_used(cluster: &Cluster) {
    let extra = ["delete", "clusterrolebinding", "daylight-accounts"];
    cluster.control_plane.kubectl_ok(extra).await.unwrap();
    cluster.lists(&Value::Null, &Value::Null).await;
    let class = ["delete", "priorityclass", "daylight-miner"];
    cluster.control_plane.kubectl_ok(class).await.unwrap();
    let before = cluster.audit_log.entries().len();

    tell_the_story(cluster).await;

    let given = rights_given(cluster).await;
    // A watch is in the log once it has ended, a moment after the controller has.
    let begun = Instant::now();
    let (used, refused, unused) = loop {
        let (used, refused) = rights_used(cluster, before);
        let unused: Vec<&Right> =
            given.iter().filter(|right| !used.contains(*right) && !is_elsewhere(right)).collect();
        if unused.is_empty() || begun.elapsed() > Duration::from_secs(20) {
            break (used, refused, unused);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    cluster.control_plane.apply(include_str!("people.yaml")).await.unwrap();
    cluster
        .helm(&["upgrade", "daylight", &crate::cluster::chart("daylight"), "--reuse-values"])
        .await;
    cluster.lists(&registrations(), &classes()).await;
    assert!(refused.is_empty(), "the controller asked for what it may not do: {refused:?}");
    assert!(unused.is_empty(), "rights that no code path uses: {unused:?}\nused: {used:?}");
    println!(
        "{} rights given, {} of them seen in use",
        given.len(),
        given.intersection(&used).count()
    );
}

/// What the controller did, and what it was refused, since so many entries of the log.
fn rights_used(cluster: &Cluster, before: usize) -> (BTreeSet<Right>, BTreeSet<Right>) {
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for entry in &cluster.audit_log.entries()[before..] {
        let by_controller = entry["impersonatedUser"]["username"] == CONTROLLER
            && !entry["auditID"].as_str().unwrap_or_default().starts_with("attempt-");
        if by_controller {
            match entry["annotations"]["authorization.k8s.io/decision"].as_str() {
                Some("allow") => used.insert(right_of(entry)),
                _ => refused.insert(right_of(entry)),
            };
        }
    }
    (used, refused)
}

fn is_elsewhere(right: &str) -> bool {
    let verb = right.split(' ').next();
    ELSEWHERE.iter().any(|(known, _)| right == *known || verb == Some(known))
}

fn right_of(entry: &Value) -> Right {
    let object = &entry["objectRef"];
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    name(
        entry["verb"].as_str().unwrap_or_default(),
        text("apiGroup"),
        &[text("resource"), text("subresource")].join("/"),
    )
}

fn name(verb: &str, group: &str, resource: &str) -> Right {
    let resource = resource.trim_end_matches('/');
    if group.is_empty() {
        format!("{verb} {resource}")
    } else {
        format!("{verb} {group}/{resource}")
    }
}

/// What the roles that are bound to the controller's account give.
async fn rights_given(cluster: &Cluster) -> BTreeSet<Right> {
    let mut given = BTreeSet::new();
    let everything = ["get", "clusterrole/daylight-controller", "-o", "json"];
    let own = ["get", "role/daylight-controller", "-n", SYSTEM, "-o", "json"];
    for role in [everything.to_vec(), own.to_vec()] {
        let role: Value =
            serde_json::from_str(&cluster.control_plane.kubectl_ok(role).await.unwrap()).unwrap();
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        given.insert(name(&verb, &group, &resource));
                    }
                }
            }
        }
    }
    given
}

/// Everything that the controller does: grants, evictions that a budget refuses, lease records, jobs
/// that start, fail to start and end, lists that somebody spoils.
async fn tell_the_story(cluster: &Cluster) {
    let nodes = Nodes::new(4).prefix("story").label("site", "story");
    cluster.control_plane.create_nodes(&nodes).await.unwrap();
    let log = cluster.control_plane.directory().join("logs/story-controller.log");
    let mut controller = tokio::process::Command::new(env!("CARGO_BIN_EXE_daylight"))
        .args(["controller", "--listen", "none", "--as", CONTROLLER, "--metered"])
        .args(["--record-after", "1s", "--lease-duration", "3s", "--lease-renew", "500ms"])
        .args(["--lease-retry", "100ms", "--request-timeout", "1s"])
        .envs(cluster.control_plane.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let told = tokio::spawn(story(cluster.control_plane.environment(), cluster.admin())).await;
    let spoiled = spoil_lists(cluster).await;
    controller.kill().await.unwrap();
    if told.is_err() || !spoiled {
        println!("{}", std::fs::read_to_string(&log).unwrap_or_default());
    }
    told.unwrap();
    assert!(spoiled, "the lists are not put right");
}

/// Edits one list, and makes the other one such that it can only be made anew.
async fn spoil_lists(cluster: &Cluster) -> bool {
    let path = |name: &str| format!("/api/v1/namespaces/{SYSTEM}/configmaps/daylight-{name}");
    let edit = Change::patch(&path("classes"), json!({"data": {"x": "Guaranteed NotRequired"}}));
    let spoil =
        Change::patch(&path("registrations"), json!({"data": {"x": "y"}, "immutable": true}));
    // In the controller's name, since nobody else may; its role lets it patch these two.
    cluster.make(CONTROLLER, &edit).await;
    cluster.make(CONTROLLER, &spoil).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        let mut well = true;
        for name in ["daylight-classes", "daylight-registrations"] {
            let data = ["get", "configmap", name, "-n", SYSTEM, "-o", "jsonpath={.data.x}"];
            let data =
                cluster.control_plane.kubectl_ok(data).await.unwrap_or_else(|_| "gone".into());
            well &= data.is_empty();
        }
        if well {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    false
}

type Environment = Vec<(&'static str, std::path::PathBuf)>;

async fn story(environment: Environment, client: kube::Client) {
    let api = |path: &str| format!("/apis/daylight.dev/v1alpha1/{path}");
    let create = async |path: &str, object: Value| {
        let answer = crate::request::make(&client, &Change::create(path, object)).await;
        assert!(answer.is_admitted(), "{path}: {}", answer.message());
    };
    let object = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let daylight = |kind: &str, name: &str, spec: Value| {
        let mut object = object(name, spec);
        object["apiVersion"] = json!("daylight.dev/v1alpha1");
        object["kind"] = json!(kind);
        object
    };
    let pool = json!({
        "nodeSelector": {"matchLabels": {"site": "story"}}, "resource": "nvidia.com/gpu",
        "site": {"name": "site-1"},
        "mining": {"policy": "Fill", "idleDelay": "0s", "drainTimeout": "5s"},
    });
    create(&api("gpupools"), daylight("GpuPool", "story", pool)).await;
    let mut registration = crate::cluster::registration("reg", "tenant@example.com");
    registration["spec"]["pools"] = json!(["story"]);
    registration["spec"]["limits"] = json!({"gpus": 32});
    create(&api("namespaces/story/registrations"), registration).await;
    let approved = std::process::Command::new(env!("CARGO_BIN_EXE_daylight"))
        .args(["approve", "story/reg", "--as", OFFICER])
        .envs(environment)
        .output()
        .unwrap();
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    let miner = json!({
        "registration": "reg", "replicas": 32, "image": "registry.example.com/miners/kaspa:1",
        "drainTimeout": "1s", "wattsPerReplica": 300,
    });
    create(&api("namespaces/story/miners"), daylight("Miner", "miner", miner)).await;
    let budget = json!({
        "maxUnavailable": 0, "selector": {"matchLabels": {"daylight.dev/miner": "miner"}},
    });
    create("/apis/policy/v1/namespaces/story/poddisruptionbudgets", object("all", budget)).await;
    // Other tests' pods hold a few.
    until(&client, "28 miners", "/api/v1/namespaces/story/pods", |list| {
        let pods = list["items"].as_array().unwrap();
        pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count() >= 28
    })
    .await;

    // A job that runs and ends, and one whose second worker can never be bound.
    let worker = |more: Value| {
        let mut spec = json!({"containers": [{
            "name": "train", "image": "registry.example.com/train:1",
            "resources": {"limits": {"nvidia.com/gpu": "4"}},
        }]});
        if let Value::Object(more) = more {
            for (key, value) in more {
                spec[key] = value;
            }
        }
        json!({
            "metadata": {"annotations": {"daylight.dev/simulated-run-time": "1s"}}, "spec": spec,
        })
    };
    let apart = json!({"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "site",
            "labelSelector": {"matchLabels": {"daylight.dev/aijob": "apart"}},
        }],
    }}});
    let jobs = api("namespaces/story/aijobs");
    let state = |list: &Value, name: &str| -> String {
        let items = list["items"].as_array().unwrap();
        let found = items.iter().find(|job| job["metadata"]["name"] == name);
        found
            .map_or("Gone".into(), |job| job["status"]["state"].as_str().unwrap_or_default().into())
    };
    for (name, workers, more) in [("ends", 1, Value::Null), ("apart", 2, apart)] {
        let mut template = worker(more);
        if name == "apart" {
            template["metadata"] = Value::Null;
        }
        let spec = json!({
            "workers": workers, "activityClass": "ai-training", "gangTimeout": "2s",
            "ttlAfterFinished": "1s", "template": template,
        });
        create(&jobs, daylight("AIJob", name, spec)).await;
        if name == "ends" {
            until(&client, "the job that ended is gone", &jobs, |list| {
                state(list, "ends") == "Gone"
            })
            .await;
        }
    }
    until(&client, "the gang starts", &jobs, |list| state(list, "apart") == "Starting").await;
    until(&client, "the gang is queued again", &jobs, |list| state(list, "apart") == "Queued")
        .await;
    until(&client, "the gang starts again", &jobs, |list| state(list, "apart") == "Starting").await;
    until(&client, "a lease record", &api("namespaces/story/leaserecords"), |list| {
        !list["items"].as_array().unwrap().is_empty()
    })
    .await;
}

/// Waits until what is read at `path` is so.
async fn until(client: &kube::Client, what: &str, path: &str, is_so: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let list: Value = client.request(request).await.unwrap();
        if is_so(&list) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "not within a minute: {what}: {list:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

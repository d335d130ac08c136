//! How much memory the index and the planner take for a large cluster, and how long one event
//! takes from its line of JSON to a new plan.
//!
//! ```text
//! cargo run --release -p daylight --example index_memory [-- pages]
//! ```
//!
//! An HTTP server in the same process serves 10,000 nodes, 62,000 pods, 200 Miners
//! and 50 approved registrations, as large as real ones, made line by line as they are sent; the watches read them
//! over a socket as they would from an API server. With `pages` the server
//! refuses streaming lists.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daylight::view::{View, digest, miners};
use daylight_base::Timestamp;
use daylight_cluster::{Change, Event, Kind, watch};
use daylight_crds::GpuPool;
use daylight_planner::Planner;
use daylight_planner::model::Snapshot;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

const NODES: usize = 10_000;
const MINER_PODS: usize = 60_000;
const AI_PODS: usize = 2_000;
const MINERS: usize = 200;
const REGISTRATIONS: usize = 50;
const VERSION: &str = "1000000";

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pages = std::env::args().nth(1).is_some_and(|mode| mode == "pages");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Router::new().fallback(move |request| async move { answer(pages, &request) });
    tokio::spawn(async move { axum::serve(listener, server).await });

    let line = object(Kind::Pod, 0).to_string().len();
    println!("a pod is {line} bytes, a node {}", object(Kind::Node, 0).to_string().len());
    println!("{:<34}{}", "before", memory()?);

    let config = kube::Config::new(format!("http://{address}").parse()?);
    let client = kube::Client::try_from(config)?;
    let mut watches = watch::start(&client, &watch::Settings::default());
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    let mut view = View::new(now);
    let mut planner = Planner::new(Snapshot::default());
    let (mut events, mut deltas) = (Vec::new(), Vec::new());
    let (began, mut told) = (Instant::now(), 0);
    while !view.is_warm() {
        watches.recv_many(&mut events, 256).await;
        for event in events.drain(..) {
            view.apply(event, now, &mut deltas);
        }
        told += deltas.len();
        for delta in deltas.drain(..) {
            planner.apply(delta);
        }
    }
    println!(
        "{:<34}{}",
        format!("listed in {:.1} s, {told} deltas", began.elapsed().as_secs_f32()),
        memory()?
    );
    println!(
        "pods {}, nodes {}",
        view.cluster().count(Kind::Pod),
        view.cluster().count(Kind::Node)
    );

    let planning = Instant::now();
    let plan = planner.plan(now);
    println!(
        "{:<34}{}",
        format!("planned in {:.0} ms", planning.elapsed().as_secs_f32() * 1e3),
        memory()?
    );
    println!("the plan changes {} pods", plan.actions.len());
    drop(plan);

    // What one event costs: a pod ends, and comes back.
    let mut times = [const { Vec::new() }; 3];
    for number in (0..MINER_PODS).step_by(97) {
        for phase in ["Succeeded", "Running"] {
            let mut object = pod(number);
            object["status"]["phase"] = json!(phase);
            object["metadata"]["resourceVersion"] = json!((2_000_000 + times[0].len()).to_string());
            let line = object.to_string();
            let began = Instant::now();
            let event = Event::Pod(Change::Applied(serde_json::from_str(&line)?));
            let read = Instant::now();
            view.apply(event, now, &mut deltas);
            let applied = Instant::now();
            for delta in deltas.drain(..) {
                planner.apply(delta);
            }
            black_box(planner.plan(now));
            times[0].push(read - began);
            times[1].push(applied - read);
            times[2].push(applied.elapsed());
        }
    }
    for (what, mut times) in ["read", "applied to the index", "planned for"].iter().zip(times) {
        times.sort_unstable();
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        println!("an event is {what} in {median:.0?} at the median, {most:.0?} at most");
    }

    // A new leader lists all of it once more.
    let round = watches.relist();
    let began = Instant::now();
    while !view.cluster().is_fresh(round) {
        watches.recv_many(&mut events, 256).await;
        for event in events.drain(..) {
            view.apply(event, now, &mut deltas);
        }
        deltas.clear();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!(
        "{:<34}{}",
        format!("listed again in {:.1} s", began.elapsed().as_secs_f32()),
        memory()?
    );
    Ok(())
}

/// Resident memory now and at its most.
fn memory() -> Result<String, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let megabytes = |field: &str| {
        let line = status.lines().find(|line| line.starts_with(field));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    Ok(format!("RSS {} MB, at most {} MB", megabytes("VmRSS"), megabytes("VmHWM")))
}

fn answer(pages: bool, request: &Request) -> Response {
    let query: BTreeMap<&str, &str> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|parameter| parameter.split_once('='))
        .collect();
    let (kind, count) = match request.uri().path() {
        "/api/v1/pods" => (Kind::Pod, MINER_PODS + AI_PODS),
        "/api/v1/nodes" => (Kind::Node, NODES),
        "/apis/daylight.dev/v1alpha1/gpupools" => (Kind::GpuPool, 1),
        "/apis/daylight.dev/v1alpha1/activityclasses" => (Kind::ActivityClass, 2),
        "/apis/daylight.dev/v1alpha1/registrations" => (Kind::Registration, REGISTRATIONS),
        "/apis/daylight.dev/v1alpha1/miners" => (Kind::Miner, MINERS),
        _ => (Kind::Miner, 0),
    };
    if query.contains_key("sendInitialEvents") {
        if pages {
            let status = json!({"kind": "Status", "status": "Failure", "code": 422, "reason": "Invalid", "message": "", "metadata": {}});
            let response = Response::builder().status(422).body(Body::from(status.to_string()));
            return response.unwrap_or_default();
        }
        let end = json!({"type": "BOOKMARK", "object": {"metadata": {
            "resourceVersion": VERSION, "annotations": {"k8s.io/initial-events-end": "true"},
        }}});
        let lines = (0..count)
            .map(move |number| {
                format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", object(kind, number))
            })
            .chain(std::iter::once(format!("{end}\n")));
        let body = stream::iter(lines.map(Ok::<_, std::io::Error>)).chain(stream::pending());
        return Response::new(Body::from_stream(body));
    }
    if query.contains_key("watch") {
        return Response::new(Body::from_stream(stream::pending::<std::io::Result<String>>()));
    }
    let from: usize = query.get("continue").and_then(|text| text.parse().ok()).unwrap_or(0);
    let limit: usize = query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(count);
    let to = (from + limit).min(count);
    // As text at once: a page of parsed objects would take more than all the rest.
    let items: Vec<String> = (from..to).map(|number| object(kind, number).to_string()).collect();
    let next = if to < count { to.to_string() } else { String::new() };
    let page = format!(
        "{{\"metadata\":{{\"resourceVersion\":\"{VERSION}\",\"continue\":\"{next}\"}},\"items\":[{}]}}",
        items.join(",")
    );
    Response::new(Body::from(page))
}

fn object(kind: Kind, number: usize) -> Value {
    match kind {
        Kind::Pod => pod(number),
        Kind::Node => node(number),
        Kind::ActivityClass => class(number),
        Kind::Registration => approved(number),
        Kind::Miner => miner(number),
        _ => pool(),
    }
}

fn pool() -> Value {
    json!({
        "metadata": metadata("main", "", 0),
        "spec": {
            "nodeSelector": {"matchLabels": {"node.kubernetes.io/instance-type": "hgx-h100"}},
            "resource": "nvidia.com/gpu",
            "site": {"name": "oslo"},
            "mining": {"policy": "Fill"},
        },
    })
}

fn class(number: usize) -> Value {
    let (name, category, assignment) = match number {
        0 => ("pow-mining", "Declared", "IdleOnly"),
        _ => ("ai-training", "DataIndustry", "Guaranteed"),
    };
    let registration = if number == 0 { "Required" } else { "NotRequired" };
    json!({
        "metadata": metadata(name, "", number),
        "spec": {"category": category, "assignment": assignment, "registration": registration},
    })
}

fn registration(number: usize) -> Value {
    json!({
        "metadata": metadata(&format!("registration-{number}"), &format!("team-{number}"), number),
        "spec": {
            "operator": {"name": "Tenant"}, "submittedBy": "tenant@example.com",
            "activityClass": "pow-mining", "site": "oslo", "pools": ["main"],
            "validFrom": "2020-01-01T00:00:00Z", "validUntil": "2099-01-01T00:00:00Z",
            "limits": {"gpus": 2 * MINER_PODS / REGISTRATIONS},
        },
    })
}

/// A registration with its approval.
fn approved(number: usize) -> Value {
    let mut registration = registration(number);
    let digest = serde_json::from_value(registration.clone()).map(|subject| {
        let class = serde_json::from_value(class(0)).ok();
        let pool: Option<GpuPool> = serde_json::from_value(pool()).ok();
        digest::spec_digest(&subject, class.as_ref(), |_| pool.as_ref())
    });
    registration["status"] = json!({"approval": {
        "state": "Approved", "by": "officer", "at": "2026-11-01T00:00:00Z",
        "specDigest": digest.unwrap_or_default(), "digestVersion": digest::VERSION, "generation": 1,
    }});
    registration
}

fn miner(number: usize) -> Value {
    let team = number % REGISTRATIONS;
    json!({
        "metadata": metadata(&format!("miner-{number}"), &format!("team-{team}"), number),
        "spec": {
            "registration": format!("registration-{team}"),
            "replicas": MINER_PODS / MINERS,
            "image": "registry.example.com/miners/kaspa:1.4",
            "resources": {"cpu": "1", "memory": "2Gi"},
            "wattsPerReplica": 350,
        },
    })
}

/// The revision of each registration's miners, as the controller labels their pods.
static REVISIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let read = |number| serde_json::from_value(miner(number)["spec"].take()).ok();
    (0..REGISTRATIONS).filter_map(read).map(|spec| miners::revision(&spec).to_string()).collect()
});

fn metadata(name: &str, namespace: &str, number: usize) -> Value {
    json!({
        "name": name, "namespace": namespace, "uid": uid(number), "generation": 1,
        "resourceVersion": (number + 1).to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
    })
}

fn node(number: usize) -> Value {
    let name = format!("gpu-node-{number:05}.cluster.example.com");
    let images: Vec<Value> = (0..50)
        .map(|image| {
            json!({
                "names": [
                    format!("registry.example.com/some/team/image-{image}@sha256:{:064x}", image * 7919),
                    format!("registry.example.com/some/team/image-{image}:v1.{image}"),
                ],
                "sizeBytes": 123_456_789,
            })
        })
        .collect();
    let features: BTreeMap<String, &str> = (0..40)
        .map(|feature| (format!("feature.node.kubernetes.io/cpu-cpuid.FEATURE{feature}"), "true"))
        .chain([
            ("kubernetes.io/arch".to_owned(), "amd64"),
            ("node.kubernetes.io/instance-type".to_owned(), "hgx-h100"),
            ("nvidia.com/gpu.product".to_owned(), "NVIDIA-H100-80GB-HBM3"),
        ])
        .collect();
    let mut labels = json!(features);
    labels["kubernetes.io/hostname"] = json!(name);
    json!({
        "metadata": {
            "name": name, "uid": uid(number), "resourceVersion": (number + 1).to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels,
            "managedFields": managed(30),
        },
        "spec": {"podCIDR": "10.0.0.0/24", "providerID": format!("metal://{name}")},
        "status": {
            "allocatable": {
                "cpu": "190", "memory": "2113538284Ki", "pods": "110", "nvidia.com/gpu": "8",
                "ephemeral-storage": "3384376438Ki", "hugepages-2Mi": "0",
            },
            "capacity": {"cpu": "192", "memory": "2113638284Ki", "pods": "110", "nvidia.com/gpu": "8"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "2026-11-24T06:00:00Z"},
                {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2026-11-24T06:00:00Z"},
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-24T06:00:00Z"},
            ],
            "images": images,
        },
    })
}

fn pod(number: usize) -> Value {
    let ai = number >= MINER_PODS;
    // Six miners a node; AI on the last two GPUs of the first nodes.
    let node_number = if ai { number - MINER_PODS } else { number / 6 };
    let node = format!("gpu-node-{node_number:05}.cluster.example.com");
    let name = if ai {
        format!("training-{number}-worker")
    } else {
        format!("kaspa-miner-{:08x}-{}-0", node_number, number % 6)
    };
    let mut labels =
        json!({"app.kubernetes.io/managed-by": "daylight", "daylight.dev/activity": "ai-training"});
    if !ai {
        labels = json!({
            "app.kubernetes.io/managed-by": "daylight",
            "daylight.dev/activity": "pow-mining",
            "daylight.dev/miner": format!("miner-{}", number % 200),
            "daylight.dev/registration": format!("registration-{}", number % 50),
            "daylight.dev/pool": "main",
            "daylight.dev/slot": (number % 6).to_string(),
            "daylight.dev/epoch": "0",
            "daylight.dev/revision": REVISIONS[number % REGISTRATIONS],
            "daylight.dev/watts": "350",
        });
    }
    let env: Vec<Value> = (0..15)
        .map(|one| json!({"name": format!("SOME_VARIABLE_{one}"), "value": "stratum+tcp://pool.example.com:5555"}))
        .collect();
    let pin = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}],
    }}});
    json!({
        "metadata": {
            "name": name, "namespace": format!("team-{}", number % 50), "uid": uid(number),
            "resourceVersion": (number + 1).to_string(), "creationTimestamp": "2026-11-24T06:00:00Z",
            "labels": labels, "managedFields": managed(20),
            "finalizers": ["daylight.dev/metered"],
            "ownerReferences": [{"kind": "Miner", "name": "miner", "uid": uid(number), "controller": true}],
        },
        "spec": {
            "nodeName": node,
            "affinity": if ai { Value::Null } else { pin },
            "priorityClassName": if ai { "" } else { "daylight-miner" },
            "preemptionPolicy": if ai { "PreemptLowerPriority" } else { "Never" },
            "containers": [{
                "name": "miner", "image": "registry.example.com/miners/kaspa:1.4", "env": env,
                "resources": {
                    "limits": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
                    "requests": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
                },
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
            }],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "schedulerName": "default-scheduler",
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
        "status": {
            "phase": "Running", "startTime": "2026-11-24T06:00:01Z", "hostIP": "10.1.2.3", "podIP": "10.0.0.7",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-24T06:00:00Z"},
                {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-11-24T06:00:00Z"},
                {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-11-24T06:00:02Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T06:00:02Z"},
            ],
            "containerStatuses": [{
                "name": "miner", "containerID": format!("containerd://{:064x}", number), "ready": true,
                "image": "registry.example.com/miners/kaspa:1.4",
                "state": {"running": {"startedAt": "2026-11-24T06:00:02Z"}},
                "allocatedResources": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
            }],
        },
    })
}

fn uid(number: usize) -> String {
    format!("{number:08x}-1234-4567-89ab-0123456789ab")
}

fn managed(fields: usize) -> Value {
    let owned: BTreeMap<String, Value> =
        (0..fields).map(|field| (format!("f:some-field-{field}"), json!({".": {}}))).collect();
    json!([{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsV1": owned}])
}

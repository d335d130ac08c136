//! What the sides create: the same pods, however they come about.

use serde_json::{Value, json};

/// The namespace of the miners and their stand-ins.
pub(crate) const MINING: &str = "tenant-a";
/// The namespace of the AI work.
pub(crate) const AI: &str = "ai-team";
/// The label by which the observer groups pods that no Job and no miner has.
pub(crate) const GROUP: &str = "bench.daylight.dev/group";
/// The group of everything that fills idle GPUs.
pub(crate) const FILL: &str = "fill";
/// The priority class of the fill without Daylight.
const FILL_CLASS: &str = "bench-fill";
/// The longest that a filling pod may take to stop; more than any drain measured.
const GRACE_SECONDS: u32 = 120;
const POOL_ENDPOINT: &str = "stratum+tcp://pool.example.com:5555";

fn container(name: &str) -> Value {
    let resources = json!({ "cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1" });
    json!({
        "name": name,
        "image": format!("registry.example.com/miners/{name}:1.0"),
        "resources": { "requests": resources, "limits": resources },
    })
}

/// A filling pod, as Daylight creates it for the miner of [`site`]: the API server stores and sends the
/// same objects for each side.
fn fill_template(drain: u64) -> Value {
    let mut container = container("fill");
    container["env"] = json!([
        { "name": "ENGINE", "value": "fill" },
        { "name": "ALGORITHM", "value": "kheavyhash" },
        { "name": "POOL_ENDPOINTS", "value": POOL_ENDPOINT },
        { "name": "TMPDIR", "value": "/dev/shm" },
        { "name": "DRAIN_SECONDS", "value": GRACE_SECONDS.to_string() },
        { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "NODE_NAME", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
    ]);
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    json!({
        "metadata": {
            "labels": {
                GROUP: FILL,
                "daylight.dev/registration": "bench",
                "daylight.dev/activity": "pow-mining",
                "daylight.dev/pool": "bench",
                "daylight.dev/slot": "0",
                "daylight.dev/epoch": "0",
                "daylight.dev/revision": "8044374693570876",
                "daylight.dev/watts": "0",
                "app.kubernetes.io/managed-by": "bench",
            },
            "annotations": {
                "daylight.dev/simulated-drain-time": format!("{drain}s"),
                "daylight.dev/until": "2050-01-01T00:00:00Z",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
            },
        },
        "spec": {
            "priorityClassName": FILL_CLASS,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container],
        },
    })
}

/// A pod of AI work, one GPU, until it is deleted.
fn ai_template() -> Value {
    json!({
        "metadata": { "labels": { "daylight.dev/activity": "ai-training" } },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [container("worker")],
        },
    })
}

pub(crate) fn fill_class() -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": FILL_CLASS },
        "value": -1_000_000,
        "preemptionPolicy": "Never",
    })
}

/// The fill as a Deployment.
pub(crate) fn deployment(replicas: usize, drain: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": FILL, "namespace": MINING },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { GROUP: FILL } },
            "template": fill_template(drain),
        },
    })
}

/// One pod of the fill, pinned to its node and owned by a Miner, as Daylight's are.
pub(crate) fn pinned_pod(number: usize, node: &str, miner: &str, drain: u64) -> Value {
    let mut pod = fill_template(drain);
    pod["metadata"]["name"] = json!(format!("fill-{number}"));
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Miner", "name": "bench", "uid": miner,
        "controller": true,
    }]);
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["activeDeadlineSeconds"] = json!(700_000_000);
    pod["spec"]["affinity"] = json!({ "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{
            "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }],
        }]},
    }});
    pod
}

/// One plain AI pod.
pub(crate) fn plain_pod(name: &str) -> Value {
    let mut pod = ai_template();
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"][GROUP] = json!(name);
    pod
}

/// A plain Job of `pods` pods.
pub(crate) fn plain_job(name: &str, pods: usize) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": AI },
        "spec": {
            "completions": pods,
            "parallelism": pods,
            "completionMode": "Indexed",
            "template": ai_template(),
        },
    })
}

/// The same for Daylight.
pub(crate) fn ai_job(name: &str, workers: usize) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
        "metadata": { "name": name, "namespace": AI },
        "spec": {
            "activityClass": "ai-training",
            "workers": workers,
            "gangTimeout": "10m",
            "template": ai_template(),
        },
    })
}

/// Daylight's site: a pool, a registration without a limit that matters, a miner for every GPU.
/// The pool only observes, so that the moment at which filling begins can be chosen.
pub(crate) fn site(gpus: usize, drain: u64) -> Vec<Value> {
    let registered = gpus.max(1);
    vec![
        json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
            "metadata": { "name": "bench" },
            "spec": {
                "nodeSelector": { "matchLabels": { "nvidia.com/gpu.present": "true" } },
                "resource": "nvidia.com/gpu",
                "site": { "name": "bench-1", "timeZone": "Europe/Berlin" },
                "mining": {
                    "policy": "Observe", "headroom": 0,
                    "drainTimeout": format!("{GRACE_SECONDS}s"),
                },
            },
        }),
        json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration",
            "metadata": { "name": "bench", "namespace": MINING },
            "spec": {
                "operator": {
                    "name": "Tenant A GmbH",
                    "ownerPseudonym":
                        "9d1f3c5e7b20486aa8c4e6f01325476980badcfe1032547698badcfe01234567",
                },
                "filing": { "authority": "Example Energy Agency", "number": "REG-2026-0042" },
                "submittedBy": "alice@tenant-a.example",
                "activityClass": "pow-mining",
                "site": "bench-1",
                "pools": ["bench"],
                "validFrom": "2026-01-01T00:00:00Z",
                "validUntil": "2050-01-01T00:00:00Z",
                "limits": { "gpus": registered },
                "payout": {
                    "asset": "KAS",
                    "algorithm": "kheavyhash",
                    "addressCommitment": format!("sha256:{}", "0b5c3d5a".repeat(8)),
                    "poolEndpoints": [POOL_ENDPOINT],
                },
                "reporting": { "period": "Month", "dueDay": 20 },
            },
        }),
        json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Miner",
            "metadata": {
                "name": "bench", "namespace": MINING,
                "annotations": { "daylight.dev/simulated-drain-time": format!("{drain}s") },
            },
            "spec": {
                "registration": "bench",
                "replicas": registered,
                "gpusPerReplica": 1,
                "image": "registry.example.com/miners/fill:1.0",
                "engine": { "name": "fill", "algorithm": "kheavyhash" },
                "poolEndpoints": [POOL_ENDPOINT],
                "drainTimeout": format!("{GRACE_SECONDS}s"),
                "resources": { "cpu": "500m", "memory": "1Gi" },
            },
        }),
    ]
}

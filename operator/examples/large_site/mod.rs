//! A site of 10,000 nodes, as the JSON objects that an API server sends, in their real sizes.
//!
//! Each node has 8 GPUs: miners hold the first 6, and AI pods hold the others as far as they go.

use std::collections::BTreeMap;
use std::time::Duration;

use daylight::view::{digest, miners};
use daylight_cluster::Kind;
use daylight_crds::GpuPool;
use serde_json::{Value, json};

pub(crate) const NODES: usize = 10_000;
/// GPUs of each node.
pub(crate) const GPUS: usize = 8;
/// GPUs of each node that miners hold.
const MINING_GPUS: usize = 6;
pub(crate) const MINER_PODS: usize = NODES * MINING_GPUS;
/// The resource version of the lists; each object has a lower one.
pub(crate) const VERSION: u64 = 1_000_000;

pub(crate) type Error = Box<dyn std::error::Error>;

/// The parts in which sites differ.
pub(crate) struct Shape {
    /// AI pods of one GPU: one on each node, then a second.
    pub(crate) ai_pods: usize,
    pub(crate) pools: usize,
    pub(crate) mining_classes: usize,
    pub(crate) ai_classes: usize,
    pub(crate) registrations: usize,
    /// A multiple of `registrations`.
    pub(crate) miners: usize,
    /// Registrations report usage and have every kind of limit, for their owner too; otherwise only
    /// a limit of GPUs.
    pub(crate) every_limit: bool,
}

/// A site; [`Site::object`] generates its objects one by one.
pub(crate) struct Site {
    shape: Shape,
    /// The approved digest of each registration.
    digests: Vec<String>,
    /// The revision of each registration's miners, as the controller labels their pods.
    revisions: Vec<String>,
}

/// The workload that holds a GPU.
pub(crate) struct Holder {
    pub(crate) namespace: String,
    pub(crate) class: String,
    /// `None` for AI.
    pub(crate) registration: Option<String>,
}

impl Site {
    pub(crate) fn new(shape: Shape) -> Result<Self, Error> {
        let mut site = Self { shape, digests: Vec::new(), revisions: Vec::new() };
        let pools: Vec<GpuPool> = (0..site.shape.pools)
            .map(|number| serde_json::from_value(pool(number)))
            .collect::<Result<_, _>>()?;
        let pool_named =
            |name: &str| pools.iter().find(|pool| pool.metadata.name.as_deref() == Some(name));
        for number in 0..site.shape.registrations {
            let registration = serde_json::from_value(site.registration(number))?;
            let class = serde_json::from_value(site.class(number % site.shape.mining_classes))?;
            site.digests.push(digest::spec_digest(&registration, Some(&class), pool_named));
            let spec = serde_json::from_value(site.miner(number)["spec"].take())?;
            site.revisions.push(miners::revision(&spec).to_string());
        }
        Ok(site)
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pod => MINER_PODS + self.shape.ai_pods,
            Kind::Node => NODES,
            Kind::GpuPool => self.shape.pools,
            Kind::ActivityClass => self.shape.mining_classes + self.shape.ai_classes,
            Kind::Registration => self.shape.registrations,
            Kind::Miner => self.shape.miners,
            _ => 0,
        }
    }

    /// Generates an object; `number` is below [`Site::count`] of its kind.
    pub(crate) fn object(&self, kind: Kind, number: usize) -> Value {
        match kind {
            Kind::Pod => self.pod(number),
            Kind::Node => node(number, &self.pool_of(number)),
            Kind::GpuPool => pool(number),
            Kind::ActivityClass => self.class(number),
            Kind::Registration => self.approved(number),
            Kind::Miner => self.miner(number),
            _ => Value::Null,
        }
    }

    pub(crate) fn holder(&self, node: usize, slot: usize) -> Holder {
        let number = (node * MINING_GPUS + slot) % self.shape.registrations;
        let (namespace, class, registration) = if slot < MINING_GPUS {
            (format!("team-{number}"), self.mining_class(number), Some(registration_name(number)))
        } else {
            (format!("lab-{}", node % 100), ai_class(node % self.shape.ai_classes), None)
        };
        Holder { namespace, class, registration }
    }

    pub(crate) fn pool_of(&self, node: usize) -> String {
        pool_name(node % self.shape.pools)
    }

    fn mining_class(&self, registration: usize) -> String {
        format!("mining-{}", registration % self.shape.mining_classes)
    }

    fn class(&self, number: usize) -> Value {
        let (name, category, assignment, registration) =
            match number.checked_sub(self.shape.mining_classes) {
                None => (self.mining_class(number), "Declared", "IdleOnly", "Required"),
                Some(number) => (ai_class(number), "DataIndustry", "Guaranteed", "NotRequired"),
            };
        json!({
            "metadata": metadata(&name, "", number),
            "spec": {"category": category, "assignment": assignment, "registration": registration},
        })
    }

    fn registration(&self, number: usize) -> Value {
        let pools: Vec<String> = (0..self.shape.pools).map(pool_name).collect();
        let mut spec = json!({
            "operator": {"name": "Tenant"}, "submittedBy": "tenant@example.com",
            "activityClass": self.mining_class(number), "site": "oslo", "pools": pools,
            "validFrom": "2020-01-01T00:00:00Z", "validUntil": "2099-01-01T00:00:00Z",
            "limits": {"gpus": 2 * MINER_PODS / self.shape.registrations},
        });
        if self.shape.every_limit {
            spec["operator"]["ownerPseudonym"] = json!(format!("{number:064x}"));
            spec["limits"]["watts"] = json!(100_000);
            spec["limits"]["energy"] = json!({"kwh": 1_000_000, "period": "Year"});
            spec["ownerLimits"] = spec["limits"].clone();
        }
        let name = registration_name(number);
        json!({"metadata": metadata(&name, &format!("team-{number}"), number), "spec": spec})
    }

    /// Generates a registration with its approval.
    fn approved(&self, number: usize) -> Value {
        let mut registration = self.registration(number);
        registration["status"] = json!({"approval": {
            "state": "Approved", "by": "officer", "at": "2026-11-01T00:00:00Z", "generation": 1,
            "specDigest": self.digests[number], "digestVersion": digest::VERSION,
        }});
        if self.shape.every_limit {
            registration["status"]["usage"] = json!({
                "meteredUntil": jiff::Timestamp::now().to_string(), "peakWatts": 400,
                "periodStart": "2026-01-01T00:00:00Z", "millijoules": "1000000000000",
            });
        }
        registration
    }

    fn miner(&self, number: usize) -> Value {
        let team = number % self.shape.registrations;
        json!({
            "metadata": metadata(&format!("miner-{number}"), &format!("team-{team}"), number),
            "spec": {
                "registration": registration_name(team),
                "replicas": MINER_PODS / self.shape.miners,
                "image": "registry.example.com/miners/kaspa:1.4",
                "resources": {"cpu": "1", "memory": "2Gi"},
                "wattsPerReplica": 350,
            },
        })
    }

    fn pod(&self, number: usize) -> Value {
        let (node, slot) = match number.checked_sub(MINER_PODS) {
            None => (number / MINING_GPUS, number % MINING_GPUS),
            Some(number) => (number % NODES, MINING_GPUS + number / NODES),
        };
        let holder = self.holder(node, slot);
        let (pool, node) = (self.pool_of(node), node_name(node));
        let pin = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}],
        }}});
        let ai = holder.registration.is_none();
        let name = if ai {
            format!("training-{number}-worker")
        } else {
            format!("kaspa-miner-{:08x}-{slot}-0", number / MINING_GPUS)
        };
        let labels = match holder.registration {
            None => json!({"daylight.dev/activity": holder.class}),
            Some(registration) => json!({
                "app.kubernetes.io/managed-by": "daylight",
                "daylight.dev/activity": holder.class,
                "daylight.dev/miner": format!("miner-{}", number % self.shape.miners),
                "daylight.dev/registration": registration,
                "daylight.dev/pool": pool,
                "daylight.dev/slot": slot.to_string(),
                "daylight.dev/epoch": "0",
                "daylight.dev/revision": self.revisions[number % self.shape.registrations],
                "daylight.dev/watts": "350",
            }),
        };
        let env: Vec<Value> = (0..15)
            .map(|one| json!({"name": format!("SOME_VARIABLE_{one}"), "value": "stratum+tcp://pool.example.com:5555"}))
            .collect();
        json!({
            "metadata": {
                "name": name, "namespace": holder.namespace, "uid": uid(number),
                "resourceVersion": (number + 1).to_string(), "creationTimestamp": "2026-11-24T06:00:00Z",
                "labels": labels, "managedFields": managed_fields(20),
                "finalizers": ["daylight.dev/metered"],
                "ownerReferences": [{
                    "kind": if ai { "ReplicaSet" } else { "Miner" }, "name": "owner",
                    "uid": uid(number), "controller": true,
                }],
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
                    "name": "miner", "containerID": format!("containerd://{number:064x}"), "ready": true,
                    "image": "registry.example.com/miners/kaspa:1.4",
                    "state": {"running": {"startedAt": "2026-11-24T06:00:02Z"}},
                    "allocatedResources": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
                }],
            },
        })
    }
}

pub(crate) fn node_name(number: usize) -> String {
    format!("gpu-node-{number:05}.cluster.example.com")
}

fn node(number: usize, pool: &str) -> Value {
    let name = node_name(number);
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
    let labels: BTreeMap<String, &str> = (0..40)
        .map(|feature| (format!("feature.node.kubernetes.io/cpu-cpuid.FEATURE{feature}"), "true"))
        .chain([
            ("kubernetes.io/arch".to_owned(), "amd64"),
            ("kubernetes.io/hostname".to_owned(), &*name),
            ("node.kubernetes.io/instance-type".to_owned(), pool),
            ("nvidia.com/gpu.product".to_owned(), "NVIDIA-H100-80GB-HBM3"),
        ])
        .collect();
    json!({
        "metadata": {
            "name": name, "uid": uid(number), "resourceVersion": (number + 1).to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels,
            "managedFields": managed_fields(30),
        },
        "spec": {"podCIDR": "10.0.0.0/24", "providerID": format!("metal://{name}")},
        "status": {
            "allocatable": {
                "cpu": "190", "memory": "2113538284Ki", "pods": "110", "nvidia.com/gpu": GPUS.to_string(),
                "ephemeral-storage": "3384376438Ki", "hugepages-2Mi": "0",
            },
            "capacity": {
                "cpu": "192", "memory": "2113638284Ki", "pods": "110", "nvidia.com/gpu": GPUS.to_string(),
            },
            "conditions": [
                {"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": "2026-11-24T06:00:00Z"},
                {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2026-11-24T06:00:00Z"},
                {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-24T06:00:00Z"},
            ],
            "images": images,
        },
    })
}

fn registration_name(number: usize) -> String {
    format!("registration-{number}")
}

fn ai_class(number: usize) -> String {
    format!("ai-{number}")
}

fn pool_name(number: usize) -> String {
    format!("pool-{number}")
}

fn pool(number: usize) -> Value {
    let name = pool_name(number);
    json!({
        "metadata": metadata(&name, "", number),
        "spec": {
            "nodeSelector": {"matchLabels": {"node.kubernetes.io/instance-type": name}},
            "resource": "nvidia.com/gpu",
            "site": {"name": "oslo"},
            "mining": {"policy": "Fill"},
        },
    })
}

fn metadata(name: &str, namespace: &str, number: usize) -> Value {
    json!({
        "name": name, "namespace": namespace, "uid": uid(number), "generation": 1,
        "resourceVersion": (number + 1).to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
    })
}

fn uid(number: usize) -> String {
    format!("{number:08x}-1234-4567-89ab-0123456789ab")
}

fn managed_fields(count: usize) -> Value {
    let owned: BTreeMap<String, Value> =
        (0..count).map(|field| (format!("f:some-field-{field}"), json!({".": {}}))).collect();
    json!([{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsV1": owned}])
}

pub(crate) fn median_and_longest(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

//! A simulated cluster. Objects are given as JSON, as the API server sends them.

use std::time::{Duration, Instant};

use daylight_base::Timestamp;
use daylight_planner::model::{self, Delta};
use serde_json::{Value, json};

use crate::view::View;
use daylight_cluster::slim::{
    AdmissionList, BatchJob, ConfigMap, Custom, Namespace, Node, Pod, RuntimeClass, Workload,
};
use daylight_cluster::{Change, Event, Round};

/// Time at which all tests begin: 2026-11-24T06:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_795_500_000);

/// A view with a clock and a counter of resource versions.
pub(crate) struct TestCluster {
    pub(crate) view: View,
    pub(crate) now: Timestamp,
    pub(crate) version: u64,
    /// The monotonic clock.
    pub(crate) instant: Instant,
    /// `true` while the watch of pods reports nothing, not even that nothing happens.
    pub(crate) silent: bool,
}

/// Kind of [`Change`] to make of an object.
#[derive(Clone, Copy)]
pub(crate) enum ChangeKind {
    Item,
    Applied,
    Deleted,
}

impl TestCluster {
    /// Creates a cluster that held these objects when the process started.
    pub(crate) fn with(objects: &[Value]) -> Self {
        Self::with_deltas(objects).0
    }

    /// Creates it, and returns the deltas at the start, too.
    pub(crate) fn with_deltas(objects: &[Value]) -> (Self, Vec<Delta>) {
        let view = View::new(START);
        let instant = Instant::now();
        let mut cluster = Self { view, now: START, version: 100, instant, silent: false };
        let mut out = Vec::new();
        cluster.view.tick(START, instant, &mut out);
        for object in objects {
            let event = cluster.event(object, ChangeKind::Item);
            cluster.view.apply(event, START, &mut out);
        }
        assert_eq!(out, [], "no delta is returned before all is listed");
        for event in all_listed(100, Round(0)) {
            cluster.view.apply(event, START, &mut out);
        }
        assert!(cluster.view.is_warm());
        (cluster, out)
    }

    /// Applies an object, stamped with the next resource version.
    pub(crate) fn apply(&mut self, object: &Value) -> Vec<Delta> {
        let event = self.event(object, ChangeKind::Applied);
        self.apply_event(event)
    }

    pub(crate) fn delete(&mut self, object: &Value) -> Vec<Delta> {
        let event = self.event(object, ChangeKind::Deleted);
        self.apply_event(event)
    }

    pub(crate) fn apply_event(&mut self, event: Event) -> Vec<Delta> {
        let mut out = Vec::new();
        self.view.apply(event, self.now, &mut out);
        out
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, seconds: i64) -> Vec<Delta> {
        self.now = Timestamp(self.now.0 + seconds * 1000);
        self.instant += Duration::from_secs(seconds.cast_unsigned());
        let mut out = Vec::new();
        self.view.tick(self.now, self.instant, &mut out);
        self.view.refresh(self.now, &mut out);
        if !self.silent {
            self.view.apply(Event::Pod(Change::Current(self.instant)), self.now, &mut out);
        }
        out
    }

    /// Sets the wall clock.
    pub(crate) fn set_clock(&mut self, seconds: i64) -> Vec<Delta> {
        self.now = Timestamp(self.now.0 + seconds * 1000);
        let mut out = Vec::new();
        self.view.tick(self.now, self.instant, &mut out);
        self.view.refresh(self.now, &mut out);
        out
    }

    /// Returns the object as the planner knows it.
    pub(crate) fn pod(&self, key: &str) -> Option<model::Pod> {
        let pods = self.view.snapshot().pods;
        pods.into_iter().find(|pod| &*pod.key == key)
    }

    pub(crate) fn node(&self, name: &str) -> Option<model::Node> {
        let nodes = self.view.snapshot().nodes;
        nodes.into_iter().find(|node| &*node.name == name)
    }

    pub(crate) fn job(&self, key: &str) -> Option<model::Job> {
        let jobs = self.view.snapshot().jobs;
        jobs.into_iter().find(|job| &*job.key == key)
    }

    pub(crate) fn miner(&self, key: &str) -> Option<model::Miner> {
        let miners = self.view.snapshot().miners;
        miners.into_iter().find(|miner| &*miner.key == key)
    }

    pub(crate) fn registration(&self, key: &str) -> Option<model::Registration> {
        let all = self.view.snapshot().registrations;
        all.into_iter().find(|one| &*one.key == key)
    }

    pub(crate) fn event(&mut self, object: &Value, kind: ChangeKind) -> Event {
        let mut object = object.clone();
        if object["metadata"].get("resourceVersion").is_none() {
            self.version += 1;
            let version = match kind {
                ChangeKind::Item => 1,
                _ => self.version,
            };
            object["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        event(&object, kind)
    }
}

pub(crate) fn event(object: &Value, kind: ChangeKind) -> Event {
    fn change<T: serde::de::DeserializeOwned>(object: &Value, kind: ChangeKind) -> Change<T> {
        // Through text, as the server sends it.
        let read = Box::new(serde_json::from_str(&object.to_string()).unwrap());
        match kind {
            ChangeKind::Item => Change::Item(read),
            ChangeKind::Applied => Change::Applied(read),
            ChangeKind::Deleted => Change::Deleted(read),
        }
    }
    match object["kind"].as_str().unwrap() {
        "Pod" => Event::Pod(change::<Pod>(object, kind)),
        "Node" => Event::Node(change::<Node>(object, kind)),
        "Namespace" => Event::Namespace(change::<Namespace>(object, kind)),
        "Job" => Event::BatchJob(change::<BatchJob>(object, kind)),
        "AdmissionList" => match object["metadata"]["name"].as_str().unwrap() {
            "registrations" => Event::RegistrationMirror(change::<AdmissionList>(object, kind)),
            _ => Event::ClassMirror(change::<AdmissionList>(object, kind)),
        },
        "ConfigMap" => match object["metadata"]["name"].as_str().unwrap() {
            "daylight-authority-keys" => Event::AuthorityKeys(change::<ConfigMap>(object, kind)),
            _ => Event::EmergencyStop(change::<ConfigMap>(object, kind)),
        },
        "GpuPool" => Event::GpuPool(change::<Custom<_>>(object, kind)),
        "ActivityClass" => Event::ActivityClass(change::<Custom<_>>(object, kind)),
        "Registration" => Event::Registration(change::<Custom<_>>(object, kind)),
        "Miner" => Event::Miner(change::<Custom<_>>(object, kind)),
        "Workload" => Event::Workload(change::<Workload>(object, kind)),
        "RuntimeClass" => Event::RuntimeClass(change::<RuntimeClass>(object, kind)),
        "AIJob" => Event::AiJob(change::<Custom<_>>(object, kind)),
        kind => panic!("no such kind: {kind}"),
    }
}

/// Events that complete the lists of all kinds.
pub(crate) fn all_listed(version: u64, round: Round) -> Vec<Event> {
    vec![
        Event::Pod(Change::Listed { version, round }),
        Event::Node(Change::Listed { version, round }),
        Event::Namespace(Change::Listed { version, round }),
        Event::BatchJob(Change::Listed { version, round }),
        Event::EmergencyStop(Change::Listed { version, round }),
        Event::RegistrationMirror(Change::Listed { version, round }),
        Event::ClassMirror(Change::Listed { version, round }),
        Event::AuthorityKeys(Change::Listed { version, round }),
        Event::Workload(Change::Listed { version, round }),
        Event::RuntimeClass(Change::Listed { version, round }),
        Event::GpuPool(Change::Listed { version, round }),
        Event::ActivityClass(Change::Listed { version, round }),
        Event::Registration(Change::Listed { version, round }),
        Event::Miner(Change::Listed { version, round }),
        Event::AiJob(Change::Listed { version, round }),
    ]
}

/// Merges `with` into `object`; null removes a field.
pub(crate) fn patched(object: &Value, with: &Value) -> Value {
    fn merge(into: &mut Value, with: &Value) {
        match with {
            Value::Object(fields) if into.is_object() => {
                for (key, value) in fields {
                    if value.is_null() {
                        into.as_object_mut().unwrap().remove(key);
                    } else {
                        merge(&mut into[key], value);
                    }
                }
            }
            _ => *into = with.clone(),
        }
    }
    let mut object = object.clone();
    merge(&mut object, with);
    object
}

pub(crate) fn pool(name: &str) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1",
        "kind": "GpuPool",
        "metadata": {"name": name, "uid": format!("pool-{name}"), "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {
            "nodeSelector": {"matchLabels": {"pool": name}},
            "resource": "nvidia.com/gpu",
            "site": {"name": "oslo", "timeZone": "Europe/Oslo"},
            "mining": {"policy": "Fill"},
        },
    })
}

pub(crate) fn class(name: &str, assignment: &str) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1",
        "kind": "ActivityClass",
        "metadata": {"name": name, "uid": format!("class-{name}")},
        "spec": {"category": "Declared", "assignment": assignment, "registration": "Required"},
    })
}

pub(crate) fn registration(name: &str) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1",
        "kind": "Registration",
        "metadata": {"name": name, "namespace": "team", "uid": format!("reg-{name}"), "generation": 1},
        "spec": {
            "operator": {"name": "Aurora AS"},
            "submittedBy": "ann",
            "activityClass": "pow",
            "site": "oslo",
            "pools": ["a"],
            "validFrom": "2026-01-01T00:00:00Z",
            "validUntil": "2027-01-01T00:00:00Z",
            "limits": {"gpus": 16},
        },
    })
}

pub(crate) fn miner(name: &str) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1",
        "kind": "Miner",
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("miner-{name}"),
            "creationTimestamp": "2026-11-20T00:00:00Z",
        },
        "spec": {"registration": "reg", "replicas": 4, "image": "r.io/miner:1", "wattsPerReplica": 300},
    })
}

pub(crate) fn node(name: &str, pool: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name, "uid": format!("node-{name}"),
            "labels": {"pool": pool, "kubernetes.io/hostname": name},
        },
        "spec": {},
        "status": {
            "allocatable": {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// An AI pod that waits for `gpus`.
pub(crate) fn pod(name: &str, gpus: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "ml", "uid": format!("pod-{name}"),
            "creationTimestamp": "2026-11-24T06:00:00Z",
            "labels": {"daylight.dev/activity": "ai-training", "app": "x"},
            "managedFields": [{"manager": "m", "fieldsV1": {"f:metadata": {}}}],
        },
        "spec": {
            "containers": [{"name": "c", "resources": {
                "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": gpus.to_string()},
            }}],
        },
        "status": {"phase": "Pending"},
    })
}

/// A pod of a miner, pinned to a node and not bound yet.
pub(crate) fn lease(miner: &str, node: &str, slot: u32) -> Value {
    let name = format!("{miner}-{node}-{slot}-0");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("pod-{name}"),
            "creationTimestamp": "2026-11-24T06:00:00Z",
            "labels": {
                "daylight.dev/miner": miner,
                "daylight.dev/registration": "reg",
                "daylight.dev/activity": "pow",
                "daylight.dev/pool": "a",
                "daylight.dev/slot": slot.to_string(),
                "daylight.dev/epoch": "0",
                "daylight.dev/revision": "7",
                "daylight.dev/watts": "300",
            },
        },
        "spec": {
            "priorityClassName": "daylight-miner",
            "priority": -1_000_000,
            "preemptionPolicy": "Never",
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": [node]},
                ]}],
            }}},
            "containers": [{"name": "miner", "resources": {
                "requests": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"},
            }}],
        },
        "status": {"phase": "Pending"},
    })
}

/// The pod, bound and running.
pub(crate) fn running(pod: &Value, node: &str) -> Value {
    patched(
        pod,
        &json!({
            "spec": {"nodeName": node},
            "status": {
                "phase": "Running",
                "startTime": "2026-11-24T06:00:00Z",
                "conditions": [
                    {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-24T06:00:00Z"},
                    {"type": "Ready", "status": "True"},
                ],
            },
        }),
    )
}

/// The pod, ended.
pub(crate) fn ended(pod: &Value, phase: &str) -> Value {
    patched(pod, &json!({"status": {"phase": phase}}))
}

pub(crate) fn ai_job(name: &str, workers: u32) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1",
        "kind": "AIJob",
        "metadata": {
            "name": name, "namespace": "ml", "uid": format!("aijob-{name}"),
            "creationTimestamp": "2026-11-24T05:00:00Z",
        },
        "spec": {
            "workers": workers,
            "activityClass": "ai-training",
            "template": {"spec": {"containers": [{
                "name": "w",
                "image": "r.io/train:1",
                "resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "8", "memory": "64Gi"}},
            }]}},
        },
    })
}

pub(crate) fn batch_job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name, "namespace": "ml", "uid": format!("job-{name}"),
            "labels": {"daylight.dev/aijob": name},
            "ownerReferences": [{"kind": "AIJob", "name": name, "uid": format!("aijob-{name}"), "controller": true}],
        },
        "spec": {"suspend": false},
    })
}

/// A worker of an AI job, waiting for its GPUs.
pub(crate) fn worker(job: &str, index: u32) -> Value {
    patched(
        &pod(&format!("{job}-{index}"), 2),
        &json!({"metadata": {
            "labels": {"daylight.dev/aijob": job},
            "ownerReferences": [{"kind": "Job", "name": job, "uid": format!("job-{job}"), "controller": true}],
        }}),
    )
}

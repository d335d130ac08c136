//! Kueue's objects.

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::KueueSite;
use daylight_test_site::{SOON, create, eventually, is_running};

/// The label by which a Job joins a `LocalQueue`.
pub(crate) const QUEUE: &str = "kueue.x-k8s.io/queue-name";

impl KueueSite {
    /// A `ClusterQueue` with this many GPUs of the site's nodes, and a `LocalQueue` of this name. With
    /// `topology`, workloads are placed on the site's nodes by Kueue.
    pub(crate) async fn queue(&self, local_queue: &str, gpus: u32, topology: bool) {
        let site = &self.name;
        let flavor = json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor",
            "metadata": {"name": site},
            "spec": {"nodeLabels": {"site": site}, "topologyName": topology.then_some(site)},
        });
        let levels = json!([{"nodeLabel": "site"}, {"nodeLabel": "kubernetes.io/hostname"}]);
        let halls = json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Topology",
            "metadata": {"name": site}, "spec": {"levels": levels},
        });
        let local_queue = json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue",
            "metadata": {"name": local_queue, "namespace": site},
            "spec": {"clusterQueue": site},
        });
        let mut objects = vec![flavor, self.cluster_queue(gpus), local_queue];
        if topology {
            objects.insert(0, halls);
        }
        let objects: Vec<String> = objects.iter().map(Value::to_string).collect();
        self.control_plane.apply(&objects.join("\n---\n")).await.unwrap();
    }

    fn cluster_queue(&self, gpus: u32) -> Value {
        let site = &self.name;
        let quota = json!([{"name": "nvidia.com/gpu", "nominalQuota": gpus}]);
        json!({
            "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue",
            "metadata": {"name": site},
            "spec": {
                "namespaceSelector": {},
                "resourceGroups": [{
                    "coveredResources": ["nvidia.com/gpu"],
                    "flavors": [{"name": site, "resources": quota}],
                }],
            },
        })
    }

    /// Changes the `ClusterQueue`'s GPUs.
    pub(crate) async fn set_quota(&self, gpus: u32) {
        self.control_plane.apply(&self.cluster_queue(gpus).to_string()).await.unwrap();
    }

    /// A Job in a `LocalQueue`, or in none, with pods of 8 GPUs that run until they are deleted;
    /// `annotations` are its pods'.
    pub(crate) async fn job(&self, name: &str, queue: Option<&str>, pods: u32, annotations: Value) {
        let job = json!({
            "metadata": {"name": name, "labels": queue.map(|queue| json!({QUEUE: queue}))},
            "spec": {
                "parallelism": pods, "completions": pods,
                "template": {
                    "metadata": {"annotations": annotations, "labels": {"test-job": name}},
                    "spec": {"restartPolicy": "Never", "containers": [{
                        "name": "train", "image": "registry.example.com/train:1",
                        "resources": {"limits": {"nvidia.com/gpu": "8"}},
                    }]},
                },
            },
        });
        create::<Job>(&self.namespaced(), job).await;
    }

    /// Waits until this many pods of a Job run.
    pub(crate) async fn wait_for_pods(&self, job: &str, count: usize) {
        eventually(SOON, &format!("{count} pods of {job} run"), || async {
            let pods = self.pods(&format!("test-job={job}")).await;
            let running = pods.iter().filter(|pod| is_running(pod)).count();
            (running == count).then_some(())
        })
        .await;
    }
}

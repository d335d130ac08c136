use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

/// A number of simulated nodes of one kind.
///
/// ```
/// use daylight_testbed::Nodes;
///
/// // node-0000 to node-0499, each with 8 GPUs.
/// let nodes = Nodes::new(500);
/// // small-0000 and small-0001, which carry no GPUs.
/// let small = Nodes::new(2).prefix("small").gpus(0).resource("cpu", "4").label("pool", "cpu");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Nodes {
    count: usize,
    first: usize,
    prefix: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    resources: BTreeMap<String, String>,
    taints: Vec<Taint>,
}

impl Nodes {
    /// `count` nodes, named `node-0000` and so on, each with 8
    /// `nvidia.com/gpu`, 64 CPUs, 512 GiB of memory and room for 110 pods, and
    /// with the label `gpu=true`.
    pub fn new(count: usize) -> Self {
        let resources = [
            ("cpu", "64"),
            ("memory", "512Gi"),
            ("ephemeral-storage", "1Ti"),
            ("pods", "110"),
            ("nvidia.com/gpu", "8"),
        ];
        Self {
            count,
            first: 0,
            prefix: "node".to_owned(),
            labels: [("gpu".to_owned(), "true".to_owned())].into(),
            annotations: BTreeMap::new(),
            resources: resources.map(|(name, amount)| (name.to_owned(), amount.to_owned())).into(),
            taints: Vec::new(),
        }
    }

    /// The prefix of the names: `prefix-0000`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The number of the first node, to add to existing ones.
    pub fn starting_at(mut self, first: usize) -> Self {
        self.first = first;
        self
    }

    /// One more label, or another value for one.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// One more annotation.
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The number of `nvidia.com/gpu` on each.
    pub fn gpus(self, count: u32) -> Self {
        self.resource("nvidia.com/gpu", count.to_string())
    }

    /// The amount of a resource on each, both capacity and allocatable. An
    /// amount of `0` removes the resource.
    pub fn resource(mut self, name: impl Into<String>, amount: impl Into<String>) -> Self {
        let (name, amount) = (name.into(), amount.into());
        if amount == "0" {
            self.resources.remove(&name);
        } else {
            self.resources.insert(name, amount);
        }
        self
    }

    /// A taint on each: `taint("nvidia.com/gpu", "present", "NoSchedule")`.
    pub fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        self.taints.push(Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            ..Taint::default()
        });
        self
    }

    /// The nodes' names, in order.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        (self.first..self.first + self.count).map(|number| format!("{}-{number:04}", self.prefix))
    }

    /// The nodes as they register: ready, with their resources.
    pub fn objects(&self) -> impl Iterator<Item = Node> + '_ {
        (self.first..).zip(self.names()).map(|(number, name)| self.object(number, name))
    }

    fn object(&self, number: usize, name: String) -> Node {
        let mut labels = self.labels.clone();
        for (key, value) in [
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
        ] {
            labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        let resources: BTreeMap<String, Quantity> = self
            .resources
            .iter()
            .map(|(name, amount)| (name.clone(), Quantity(amount.clone())))
            .collect();
        let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
        Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels),
                annotations: Some(self.annotations.clone()),
                ..ObjectMeta::default()
            },
            spec: (!self.taints.is_empty()).then(|| k8s_openapi::api::core::v1::NodeSpec {
                taints: Some(self.taints.clone()),
                ..Default::default()
            }),
            status: Some(NodeStatus {
                addresses: Some(vec![
                    address("InternalIP", format!("10.1.{}.{}", (number >> 8) & 255, number & 255)),
                    address("Hostname", name),
                ]),
                allocatable: Some(resources.clone()),
                capacity: Some(resources),
                conditions: Some(conditions()),
                node_info: Some(system()),
                phase: Some("Running".to_owned()),
                ..NodeStatus::default()
            }),
        }
    }
}

/// The conditions that a healthy kubelet reports.
fn conditions() -> Vec<NodeCondition> {
    let now = Time(k8s_openapi::jiff::Timestamp::now());
    [
        ("Ready", "True", "KubeletReady"),
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
    ]
    .map(|(kind, status, reason)| NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: None,
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    })
    .to_vec()
}

fn system() -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: "amd64".to_owned(),
        operating_system: "linux".to_owned(),
        boot_id: "0".to_owned(),
        kubelet_version: "v1.37.2".to_owned(),
        kube_proxy_version: "v1.37.2".to_owned(),
        container_runtime_version: "kwok://0.8.0".to_owned(),
        ..NodeSystemInfo::default()
    }
}

/// Returns whether the node's health permits pods.
pub(crate) fn is_ready(node: &Node) -> bool {
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let tainted = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .any(|taint| taint.key.starts_with("node.kubernetes.io/not-ready"));
    ready && !tainted
}

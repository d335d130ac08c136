use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::binary::build_workload;
use crate::error::{Error, Result};
use crate::isolation::{self, ADDRESS};
use crate::nodes::is_ready;
use crate::scratch::{self, Scratch};
use crate::{control_groups, image};

/// The addresses of Services.
pub(crate) const SERVICES: &str = "10.0.0.0/16";
/// The addresses of its pods.
pub(crate) const PODS: &str = "10.89.0.0/16";

/// A node on which containers run, with kubelet, containerd and runc. Only its
/// GPUs are simulated.
///
/// Its pods can run [`RealNode::IMAGE`] and the images added by [`RealNode::image`], and pull none.
/// They reach each other, and servers in the namespace at [`RealNode::GATEWAY`]; nothing else, unless
/// there are [services](crate::Options::with_services). `kubectl logs` and `exec` work.
///
/// kubelet, containerd and the containers run in their own PID and mount namespaces,
/// in the network namespace that [`isolate`](crate::isolate) creates. A network
/// namespace can hold one real node.
#[derive(Clone, Debug)]
#[must_use]
pub struct RealNode {
    name: String,
    labels: BTreeMap<String, String>,
    gpus: u32,
    images: Vec<PathBuf>,
    disk: Option<u32>,
}

impl RealNode {
    /// The default image. Its program runs until SIGTERM, unless its arguments say
    /// otherwise: `-run 3s` ends it by itself after this time, `-drain 5s` lets it end this
    /// long after SIGTERM instead of at once, `-exit 1` sets its exit code instead of 0,
    /// `-memory 64` makes it write to this number of MiB first, and `-disk 64` makes
    /// it write this number of MiB to its file system, or until that is full.
    pub const IMAGE: &str = "daylight.dev/testbed/workload:1";

    /// The address at which its pods reach servers in the namespace that listen on all addresses.
    pub const GATEWAY: &str = "10.89.0.1";

    /// A node of this name, with 8 `nvidia.com/gpu`, the processors and memory
    /// of this machine, and the label `gpu=true`.
    pub fn new(name: impl Into<String>) -> Self {
        let labels = [("gpu", "true"), ("daylight.dev/testbed-node", "real")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self { name: name.into(), labels, gpus: 8, images: Vec::new(), disk: None }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number of `nvidia.com/gpu`.
    pub fn gpus(mut self, count: u32) -> Self {
        self.gpus = count;
        self
    }

    /// Adds a label, or changes its value.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds an image that its pods can run: a file for `ctr images import`, such as
    /// [`miner_image`](crate::miner_image) returns. It is read when the node starts.
    pub fn image(mut self, file: impl Into<PathBuf>) -> Self {
        self.images.push(file.into());
        self
    }

    /// A disk of `mebibytes` MiB for images, containers and volumes, in memory. kubelet keeps a
    /// tenth of it free by evicting pods. Without it they are on this machine's disk, however full
    /// that is.
    pub fn disk(mut self, mebibytes: u32) -> Self {
        self.disk = Some(mebibytes);
        self
    }

    /// Creates the Node that kubelet will find, marked so that the simulation leaves its
    /// pods alone.
    pub(crate) async fn register(&self, client: Client) -> Result<()> {
        let node = serde_json::from_value(json!({ "metadata": {
            "name": self.name,
            "labels": self.labels,
            "annotations": { "daylight.dev/simulated-outage": "true" },
        }}));
        let create = async {
            let node: Node = node.map_err(kube::Error::SerdeError)?;
            Api::<Node>::all(client).create(&PostParams::default(), &node).await
        };
        match create.await {
            // It has been started before.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            created => created.map(drop).map_err(Error::request("creating a node")),
        }
    }

    /// Writes the files, and returns the command that runs the node with this
    /// kubelet.
    pub(crate) fn command(&self, kubelet: &Command, scratch: &Scratch) -> Result<Command> {
        let Some(plugins) = isolation::plugins().filter(|_| isolation::is_isolated()) else {
            let why = "it requires its own network namespace: call isolate() first".into();
            return Err(Error::NoRealNode { why });
        };
        let directory = scratch.directory("node")?;
        image::write(Self::IMAGE, &build_workload()?, &directory.join("image.tar"))?;
        for (number, file) in self.images.iter().enumerate() {
            let to = directory.join(format!("image-{number}.tar"));
            fs::copy(file, to).map_err(Error::io("copying", file))?;
        }
        let network = scratch.directory("node/cni")?;
        write_json(&network.join("testbed.conflist"), &network_config())?;
        let config = directory.join("containerd.toml");
        scratch::write(&config, containerd_config(&directory, &plugins, &network))?;
        let config = directory.join("kubelet.json");
        // As after a reboot. kubelet would take seconds for each container that an earlier
        // start has left.
        control_groups::remove(scratch.control_group());
        control_groups::create(scratch.control_group())?;
        let control_group = Path::new("/").join(scratch.control_group());
        write_json(&config, &self.kubelet_config(&directory, &control_group))?;

        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--mount", "--mount-proc", "--fork", "--kill-child"])
            .args(["sh", "-c", include_str!("real_node.sh"), "sh"])
            .arg(&directory)
            .arg(self.disk.map(|mebibytes| mebibytes.to_string()).unwrap_or_default())
            .arg(kubelet.get_program())
            .args(kubelet.get_args())
            .arg(format!("--hostname-override={}", self.name))
            .arg(format!("--node-ip={ADDRESS}"))
            .arg(format!("--config={}", config.display()))
            .arg(format!("--root-dir={}", directory.join("disk/kubelet").display()))
            .arg(format!("--cert-dir={}", directory.join("pki").display()));
        Ok(command)
    }

    fn kubelet_config(&self, directory: &Path, control_group: &Path) -> Value {
        // This machine's disk may be nearly full.
        let free = if self.disk.is_some() { "10%" } else { "0%" };
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            // No other program is in its network.
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "healthzPort": 0,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "volumePluginDir": directory.join("plugins"),
            "resolvConf": "",
            "makeIPTablesUtilChains": false,
            // So that a node that starts again is soon ready.
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "5m",
            // All groups are in one that the testbed creates, and no others are touched.
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": control_group,
            "enforceNodeAllocatable": [],
            "failCgroupV1": false,
            "failSwapOn": false,
            "localStorageCapacityIsolation": self.disk.is_some(),
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "0%",
                "nodefs.available": free,
                "nodefs.inodesFree": "0%",
                "imagefs.available": free,
            },
            "evictionPressureTransitionPeriod": "5s",
        })
    }

    /// Returns whether kubelet has reported the node ready since `start`, and pods can
    /// be bound to it. Adds its GPUs once it has.
    pub(crate) async fn is_up(&self, client: Client, start: Timestamp) -> bool {
        let nodes: Api<Node> = Api::all(client);
        let Ok(node) = nodes.get(&self.name).await else { return false };
        let status = node.status.clone().unwrap_or_default();
        let reported = status.conditions.iter().flatten().any(|condition| {
            let heartbeat = condition.last_heartbeat_time.as_ref();
            condition.type_ == "Ready"
                && heartbeat.is_some_and(|time| time.0.as_second() >= start.as_second())
        });
        if !reported {
            return false;
        }
        let gpus = self.gpus.to_string();
        let shown = status
            .allocatable
            .iter()
            .flatten()
            .any(|(name, amount)| name == "nvidia.com/gpu" && amount.0 == gpus);
        if !shown {
            // kubelet keeps resources that it does not know.
            let amount = json!({ "nvidia.com/gpu": gpus });
            let patch = json!({ "status": { "capacity": amount, "allocatable": amount } });
            let _ = nodes
                .patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
        }
        shown && is_ready(&node)
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    scratch::write(path, format!("{value:#}\n"))
}

fn network_config() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "testbed",
        "plugins": [{
            "type": "bridge",
            "bridge": "daylight0",
            "isGateway": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": PODS }]],
                // Without a route, a packet for a Service does not leave the pod.
                "routes": [{ "dst": SERVICES }],
                "dataDir": "/run/cni",
            },
        }],
    })
}

/// Version 2, which later versions of containerd read as well.
fn containerd_config(directory: &Path, plugins: &Path, network: &Path) -> String {
    let (directory, plugins, network) = (directory.display(), plugins.display(), network.display());
    let image = RealNode::IMAGE;
    format!(
        r#"version = 2
root = "{directory}/disk/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"] # It makes a directory in /opt.

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true # Where root may not lower the score, runc dies without it.

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native" # Works also where the files are on an overlay.
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{network}"
"#
    )
}

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

/// The addresses of its pods.
const PODS: &str = "10.89.0.0/16";

/// A node on which containers run: kubelet, containerd and runc, with its
/// GPUs made up.
///
/// Its pods can run [`RealNode::IMAGE`] and those that it is given, and pull none. They reach
/// each other, and what listens in the namespace at [`RealNode::GATEWAY`]; nothing else. `kubectl
/// logs` and `exec` work.
///
/// kubelet, containerd and the containers are in PID and mount namespaces of
/// their own, in the network namespace that [`isolate`](crate::isolate) makes.
/// A namespace is for one real node.
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
    /// The image. Its program runs until SIGTERM. Arguments tell it otherwise:
    /// `-run 3s` ends it by itself so long after its start, `-drain 5s` so long
    /// after SIGTERM instead of at once, `-exit 1` with this code instead
    /// of 0, `-memory 64` has it write to so many MiB first, and `-disk 64`
    /// write so many to its file system, or until that is full.
    pub const IMAGE: &str = "daylight.dev/testbed/workload:1";

    /// Where its pods reach what listens in the namespace, on all of its addresses.
    pub const GATEWAY: &str = "10.89.0.1";

    /// A node of this name, with 8 `nvidia.com/gpu`, the processors and memory
    /// of this machine, and the label `gpu=true`.
    pub fn new(name: impl Into<String>) -> Self {
        let labels = [("gpu", "true"), ("daylight.dev/testbed-node", "real")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self { name: name.into(), labels, gpus: 8, images: Vec::new(), disk: None }
    }

    /// The number of `nvidia.com/gpu`.
    pub fn gpus(mut self, count: u32) -> Self {
        self.gpus = count;
        self
    }

    /// One more label, or another value for one.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// One more image that its pods can run: a file that `ctr images import` reads, such as
    /// [`miner_image`](crate::miner_image) gives. It is read when the node starts.
    pub fn image(mut self, file: impl Into<PathBuf>) -> Self {
        self.images.push(file.into());
        self
    }

    /// A disk of so many MiB for images, containers and volumes, in memory, of which kubelet
    /// keeps a tenth free by putting pods out. Without it they are on this machine's, however full
    /// that is.
    pub fn disk(mut self, mebibytes: u32) -> Self {
        self.disk = Some(mebibytes);
        self
    }

    /// Creates the Node that kubelet will find: not one of the simulated ones,
    /// whose pods are somebody else's.
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

    /// Writes the files, and makes the command that runs the node with this
    /// kubelet.
    pub(crate) fn command(&self, kubelet: &Command, scratch: &Scratch) -> Result<Command> {
        let Some(plugins) = isolation::plugins().filter(|_| isolation::is_isolated()) else {
            let why = "it is to run in a network namespace of its own: call isolate() first".into();
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
        // Those of an earlier start are gone as after a reboot: kubelet would
        // look for their containers, seconds for each.
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
        // A disk of this machine's that is nearly full is no matter here.
        let free = if self.disk.is_some() { "10%" } else { "0%" };
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            // Nobody else is in its network.
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "healthzPort": 0,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "volumePluginDir": directory.join("plugins"),
            "resolvConf": "",
            "makeIPTablesUtilChains": false,
            // A node that starts again is seen to.
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "5m",
            // All groups are in one of the testbed's, and no others are touched.
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

    /// Whether kubelet has reported the node ready since `start`, and pods can
    /// be bound to it. Gives it its GPUs when it has.
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
            // kubelet keeps what it does not know.
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

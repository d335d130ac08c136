//! A real Kubernetes for tests and demonstrations: it starts in seconds, and ends when the value
//! that holds it is dropped.
//!
//! ```no_run
//! # async fn example() -> daylight_testbed::Result<()> {
//! use daylight_testbed::{ControlPlane, Nodes, Options};
//!
//! let control_plane = ControlPlane::start(Options::full()).await?;
//! control_plane.create_nodes(&Nodes::new(40)).await?; // of 8 GPUs each
//! control_plane.kubectl_ok(["apply", "-f", "crds/"]).await?;
//! let version = control_plane.client().apiserver_version().await;
//! control_plane.restart_api_server().await?;
//! control_plane.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What runs
//!
//! etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and
//! helm as they are released, built from source into one binary by the Go
//! module in `testbed/k8s` ([`build`]; once, and then kept in the user's cache).
//! Only nodes are simulated: admission, RBAC, garbage collection, Jobs, budgets,
//! preemption and taints are Kubernetes' own. `DAYLIGHT_TESTBED` may name a
//! binary that is built already, and `KUBEBUILDER_ASSETS` a directory with etcd,
//! kube-apiserver and kubectl for tests that need no more ([`Programs::find`]).
//!
//! Each control plane has its own certificate authority, free loopback ports
//! and a temporary directory, so that any number can run at the same time. It ends by
//! [`ControlPlane::stop`], when it is dropped (also in a panic), and when the
//! process that started it ends for whatever reason: the components exit
//! when their standard input closes.
//!
//! # What is simulated
//!
//! Nodes and what runs on them. Each Node object, by [`ControlPlane::create_nodes`]
//! or by other means, is kept alive by [kwok](https://kwok.sigs.k8s.io), and
//! the pods bound to it behave as their annotations say:
//!
//! | annotation on a pod | what the pod does | without it |
//! |---|---|---|
//! | `daylight.dev/simulated-start-time: 2s` | is Running and Ready this long after it was bound | at once |
//! | `daylight.dev/simulated-run-time: 1h30m` | ends by itself this long after that | runs until it is deleted |
//! | `daylight.dev/simulated-drain-time: 5s` | handles SIGTERM, and ends this long after it, or at the end of its grace period by SIGKILL (exit code 137) | dies of SIGTERM at once (143) |
//! | `daylight.dev/simulated-exit: "1"` | exits with this code at the end of its run time or drain; any code but 0 is a failure | 0 |
//! | `daylight.dev/simulated-termination-message: bye` | its containers write this termination message | none |
//! | `daylight.dev/simulated-metrics: up 1` | serves this text at `/metrics` on port 9735 of its own loopback address, while it runs | serves nothing |
//!
//! As with a kubelet, a pod that is deleted first becomes `Succeeded` or
//! `Failed`, with the times at which its containers ended, and is then removed, unless a
//! finalizer of another component holds it. A pod whose `activeDeadlineSeconds`
//! have passed gets SIGTERM, and becomes `Failed` with the reason `DeadlineExceeded`.
//! Times are exact to a few hundredths of a second on an idle machine.
//! [`ControlPlane::set_outage`] simulates a node without its kubelet.
//!
//! # GPUs and their exporters
//!
//! The GPUs of a simulated node (`nvidia.com/gpu` or `amd.com/gpu`) have permanent identities,
//! are held by the pods bound to them (the first free ones, as a kubelet assigns them), and count
//! energy. [`ControlPlane::create_exporters`] puts an exporter on each node, which serves HTTP
//! on its own loopback address, in the text format of dcgm-exporter or AMD's
//! device-metrics-exporter. [`ControlPlane::annotate_node`] may change more annotations at any time:
//!
//! | annotation | what it does | without it |
//! |---|---|---|
//! | on a pod: `daylight.dev/simulated-watts: "250"` | each of its GPUs draws this power while it runs | 350 |
//! | on a pod: `daylight.dev/simulated-exporter: dcgm` or `amd` | it is an exporter | |
//! | on an exporter: `daylight.dev/simulated-exporter-refresh: 1s` | interval at which it reads the devices' values; scrapes in between repeat them | 30 s |
//! | on an exporter: `daylight.dev/simulated-exporter-power-limit: "true"` | its metrics include dcgm's power limit | left out, as in the default set |
//! | on a node: `daylight.dev/simulated-idle-watts: "80"` | power of a GPU that no pod uses | 60 |
//! | `daylight.dev/simulated-time-slicing: "4"` | this number of pods share each GPU; the node's capacity counts the shares | 1 |
//! | `daylight.dev/simulated-mig: "7"` | each GPU has this number of instances; the capacity counts the instances | none |
//! | `daylight.dev/simulated-boots: "2"` | at each change the node boots: counters begin at 0, the exporter restarts, `bootID` is this value; pods continue | `bootID` is `0` |
//! | `daylight.dev/simulated-replaced-gpus: "0,3,3"` | GPU 0 was replaced, GPU 3 twice: other identities, counters from 0 | none |
//! | `daylight.dev/simulated-energy-jump: "5000"` | counters are this number of joules ahead; behind, if negative | 0 |
//! | `daylight.dev/simulated-exporter-restarts: "1"` | at each change the exporter restarts, and does not respond for a second | |
//! | `daylight.dev/simulated-exporter-faults: "error"` | a list of `hang`, `error`, `frozen` (repeats its values for ever), `blank=METRIC` (the number for "no value"), `missing=METRIC`, `time=-1h` (a timestamp on each line with this error) | none |
//!
//! Only a real node has: restarts of containers (a simulated pod that ends stays
//! ended, whatever its `restartPolicy`), probes and hooks, resource usage, logs and `exec`.
//!
//! # A real node
//!
//! [`Options::with_real_node`] adds a node on which containers run to the
//! simulated ones: with a kubelet from the same binary, and the machine's
//! containerd, runc and CNI plugins. It requires root, and a network namespace
//! that the program enters before it starts anything:
//!
//! ```no_run
//! use daylight_testbed::{ControlPlane, Error, Options, RealNode, isolate};
//!
//! fn main() -> Result<(), Error> {
//!     isolate()?; // Starts this program again, inside. Or returns what is missing.
//!     # async fn example() -> Result<(), Error> {
//!     let options = Options::full().with_real_node(RealNode::new("real-0").gpus(8));
//!     let control_plane = ControlPlane::start(options).await?;
//!     // Pods with the image `RealNode::IMAGE` run on it.
//!     # Ok(())
//!     # }
//!     # Ok(())
//! }
//! ```
//!
//! Its pods reach the API server, and each other by Services, with [`Options::with_services`].
//!
//! There is no network inside: [`isolate_with`] lets a program build first what else it needs, such
//! as [`miner_image`].
//!
//! # Kueue
//!
//! [`Options::with_kueue`] adds Kueue, built from source like Kubernetes, with its shipped
//! configuration except for what needs a cluster: its webhooks are called on a loopback port, and it
//! elects no leader. It manages Jobs, pods, Deployments and `StatefulSets`.
//!
//! # Tests
//!
//! [`trials`] is the harness of all tests on control planes.
//!
//! # What it costs
//!
//! On two cores: about 3 s to start, 4 s with a real node; 5 s for 500 nodes; 23 s until 4,000 pods,
//! each pinned to its node, are running; 0.6 s to stop. With these, 1.8 GiB
//! in total, half of it for the API server. `cargo run --release -p
//! daylight-testbed --example measure` measures it on another machine.

mod binary;
mod built_images;
mod cargo;
mod certificates;
mod component;
mod control_groups;
mod control_plane;
mod env;
mod error;
mod exporters;
mod go_program;
mod image;
mod isolation;
mod kubeconfig;
mod kueue;
mod launch;
mod nodes;
mod options;
mod process;
mod real_node;
mod scratch;
mod signals;
mod tools;
pub mod trials;

pub use binary::{Programs, build, until_stdin_closes};
pub use built_images::{MINER_IMAGE, OPERATOR_IMAGE, miner_image, operator_image};
pub use cargo::cargo;
pub use component::Component;
pub use control_plane::ControlPlane;
pub use error::{Error, Result};
pub use exporters::Exporters;
pub use go_program::GoProgram;
pub use isolation::{isolate, isolate_with};
pub use kueue::build as build_kueue;
pub use nodes::Nodes;
pub use options::{ClientRate, Options};
pub use real_node::RealNode;
pub use scratch::Scratch;
pub use signals::wait_for_termination;

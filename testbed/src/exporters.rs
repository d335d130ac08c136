//! The exporters of simulated nodes' GPUs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::ControlPlane;
use crate::error::{Error, Result};

/// The longest time for all exporters to become ready.
const PATIENCE: Duration = Duration::from_secs(90);

/// A `DaemonSet` of exporters on simulated nodes, as the vendors' operators
/// create them.
///
/// ```no_run
/// # async fn example(control_plane: daylight_testbed::ControlPlane) -> daylight_testbed::Result<()> {
/// use daylight_testbed::Exporters;
///
/// control_plane.create_exporters(&Exporters::dcgm()).await?;
/// let url = control_plane.exporter_url(&Exporters::dcgm(), "node-0000").await?;
/// // http://127.83.12.4:9400/metrics
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Exporters {
    kind: &'static str,
    namespace: &'static str,
    name: &'static str,
    port: u16,
    refresh: Duration,
    power_limit: bool,
}

impl fmt::Display for Exporters {
    /// Formats them for `daylight auditor --exporter`: `NAMESPACE/NAME:PORT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.port)
    }
}

impl Exporters {
    /// NVIDIA's name for the counter of a device's energy, in millijoules.
    pub const DCGM_COUNTER: &str = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION";

    /// NVIDIA's dcgm-exporter: `gpu-operator/nvidia-dcgm-exporter`, port 9400.
    pub fn dcgm() -> Self {
        Self {
            kind: "dcgm",
            namespace: "gpu-operator",
            name: "nvidia-dcgm-exporter",
            port: 9400,
            refresh: Duration::from_secs(30),
            power_limit: false,
        }
    }

    /// AMD's device-metrics-exporter: `kube-amd-gpu/default-metrics-exporter`,
    /// port 5000.
    pub fn amd() -> Self {
        Self {
            kind: "amd",
            namespace: "kube-amd-gpu",
            name: "default-metrics-exporter",
            port: 5000,
            ..Self::dcgm()
        }
    }

    /// Interval at which they read the devices' values. 30 s unless set, the default
    /// of dcgm-exporter.
    pub fn refresh(mut self, every: Duration) -> Self {
        self.refresh = every;
        self
    }

    /// With the devices' power limit, which is not in dcgm-exporter's default
    /// set of fields. AMD's exporter has none.
    pub fn power_limit(mut self) -> Self {
        self.power_limit = true;
        self
    }

    /// Returns their addresses, by node.
    pub async fn addresses(&self, client: Client) -> Result<BTreeMap<String, SocketAddr>> {
        let pods: Api<Pod> = Api::namespaced(client, self.namespace);
        let of_set = ListParams::default().labels(&format!("app={}", self.name));
        let found = pods.list(&of_set).await.map_err(Error::request("listing exporters"))?;
        let address = |pod: Pod| {
            let ip: IpAddr = pod.status?.pod_ip?.parse().ok()?;
            Some((pod.spec?.node_name?, SocketAddr::new(ip, self.port)))
        };
        Ok(found.into_iter().filter_map(address).collect())
    }

    fn daemon_set(&self) -> serde_json::Value {
        let labels = json!({ "app": self.name });
        json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": {
                        "labels": labels,
                        "annotations": {
                            "daylight.dev/simulated-exporter": self.kind,
                            "daylight.dev/simulated-exporter-refresh":
                                format!("{}ms", self.refresh.as_millis()),
                            "daylight.dev/simulated-exporter-power-limit":
                                self.power_limit.to_string(),
                        },
                    },
                    "spec": {
                        "tolerations": [{ "operator": "Exists" }],
                        "containers": [{
                            "name": self.name,
                            "image": self.name,
                            "ports": [{ "name": "metrics", "containerPort": self.port }],
                        }],
                    },
                },
            },
        })
    }
}

impl ControlPlane {
    /// Puts an exporter on each node, and waits until all of them respond.
    /// Nodes that are added later get one, too.
    pub async fn create_exporters(&self, exporters: &Exporters) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": exporters.namespace },
        });
        let applied = PatchParams::apply("testbed").force();
        namespaces
            .patch(exporters.namespace, &applied, &Patch::Apply(namespace))
            .await
            .map_err(Error::request("creating the exporters' namespace"))?;
        let sets: Api<DaemonSet> = Api::namespaced(self.client(), exporters.namespace);
        sets.patch(exporters.name, &applied, &Patch::Apply(exporters.daemon_set()))
            .await
            .map_err(Error::request("creating the exporters"))?;
        let begun = Instant::now();
        loop {
            let set = sets
                .get(exporters.name)
                .await
                .map_err(Error::request("waiting for the exporters"))?;
            let status = set.status.unwrap_or_default();
            let (wanted, available) =
                (status.desired_number_scheduled, status.number_available.unwrap_or_default());
            if status.observed_generation == set.metadata.generation
                && wanted > 0
                && wanted == available
            {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE + Duration::from_millis(500) * wanted.unsigned_abs() {
                return Err(Error::ExportersNotReady { set: exporters.name, wanted, available });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns the URL of a node's exporter: `http://127.x.y.z:PORT/metrics`.
    pub async fn exporter_url(&self, exporters: &Exporters, node: &str) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client(), exporters.namespace);
        let on_node = ListParams::default()
            .fields(&format!("spec.nodeName={node}"))
            .labels(&format!("app={}", exporters.name));
        let found = pods.list(&on_node).await.map_err(Error::request("finding an exporter"))?;
        found
            .into_iter()
            .find_map(|pod| pod.status?.pod_ip)
            .map(|address| format!("http://{address}:{}/metrics", exporters.port))
            .ok_or_else(|| Error::NoExporter { node: node.to_owned(), set: exporters.name })
    }

    /// Annotates a node, or with `None` removes an annotation. Annotations describe
    /// its devices, and the faults of them and their exporter.
    pub async fn annotate_node(
        &self,
        node: &str,
        annotation: &str,
        value: Option<&str>,
    ) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client());
        let patch = json!({ "metadata": { "annotations": { (annotation): value } } });
        nodes
            .patch(node, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(Error::request("annotating a node"))
    }
}

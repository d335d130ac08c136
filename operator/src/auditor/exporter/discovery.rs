//! Discovery of the exporter of each node.
//!
//! Only pods of the `DaemonSet` that the installation names count, each for the node it runs on. A
//! label would prove nothing: everyone who may create a pod can set it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use daylight_base::Name;
use daylight_cluster::Change;
use daylight_cluster::slim::ExporterPod;
use daylight_cluster::store::Store;
use rustc_hash::FxHashMap;

/// Exporter that the installation names: a `DaemonSet`, and a port of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterName {
    /// Namespace of the `DaemonSet`.
    pub namespace: String,
    pub daemon_set: String,
    /// Port at which its pods serve `/metrics`.
    pub port: u16,
}

impl FromStr for ExporterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (namespace, rest) = text.split_once('/')?;
            let (daemon_set, port) = rest.split_once(':')?;
            let named = !namespace.is_empty() && !daemon_set.is_empty();
            let port = port.parse().ok().filter(|port| *port != 0)?;
            named.then(|| Self { namespace: namespace.into(), daemon_set: daemon_set.into(), port })
        };
        parse().ok_or_else(|| {
            format!(
                "\"{text}\" does not name an exporter; write NAMESPACE/DAEMONSET:PORT, such as \
                 gpu-operator/nvidia-dcgm-exporter:9400"
            )
        })
    }
}

impl fmt::Display for ExporterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.daemon_set, self.port)
    }
}

/// Running exporters by node.
#[derive(Debug)]
pub(super) struct Discovery {
    daemon_set: String,
    pods: Store<ExporterPod>,
    /// Key of the exporter's pod, and its address, by node.
    by_node: FxHashMap<Name, (Name, IpAddr)>,
}

impl Discovery {
    pub(super) fn new(exporter: &ExporterName) -> Self {
        Self {
            daemon_set: exporter.daemon_set.clone(),
            pods: Store::default(),
            by_node: FxHashMap::default(),
        }
    }

    /// Takes in a change in the exporters' namespace.
    pub(super) fn apply(&mut self, change: Change<ExporterPod>) {
        for changed in self.pods.apply(change) {
            // The old pod of a node may end after the new one has started: it takes only its own
            // address with it.
            if let Some(node) = changed.before.as_ref().and_then(|pod| pod.node.as_ref())
                && self.by_node.get(node).is_some_and(|(pod, _)| *pod == changed.key)
            {
                self.by_node.remove(node);
            }
            if let Some(pod) = self.pods.get(&changed.key)
                && pod.runs
                && pod.daemon_set.as_deref() == Some(&*self.daemon_set)
                && let (Some(node), Some(ip)) = (&pod.node, pod.ip)
            {
                self.by_node.insert(node.clone(), (changed.key, ip));
            }
        }
    }

    /// Returns the nodes that have an exporter, with its address.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Name, IpAddr)> {
        self.by_node.iter().map(|(node, (_, ip))| (node, *ip))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: &str, node: &str, ip: &str, phase: &str) -> Change<ExporterPod> {
        let pod = json!({
            "metadata": {
                "name": name, "namespace": "gpu-operator", "uid": name, "resourceVersion": "7",
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": owner, "name": "dcgm", "uid": "d",
                    "controller": true,
                }],
            },
            "spec": {"nodeName": node},
            "status": {"phase": phase, "podIP": ip},
        });
        Change::Applied(Box::new(serde_json::from_value(pod).unwrap()))
    }

    fn discovery() -> Discovery {
        Discovery::new(&"gpu-operator/dcgm:9400".parse().unwrap())
    }

    /// The last byte of the address of a node's exporter.
    fn at(discovery: &Discovery, node: &str) -> Option<u8> {
        discovery.nodes().find(|(name, _)| &***name == node).map(|(_, ip)| match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => panic!("{ip}"),
        })
    }

    #[test]
    fn only_pods_of_the_named_daemon_set_count_for_their_node() {
        let mut discovery = discovery();
        discovery.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Running"));
        discovery.apply(pod("b", "ReplicaSet", "n2", "10.0.0.2", "Running"));
        discovery.apply(pod("c", "DaemonSet", "n3", "10.0.0.3", "Pending"));
        assert_eq!(at(&discovery, "n1"), Some(1));
        assert_eq!((at(&discovery, "n2"), at(&discovery, "n3")), (None, None));
        discovery.apply(pod("c", "DaemonSet", "n3", "10.0.0.3", "Running"));
        assert_eq!(discovery.nodes().count(), 2);
        discovery.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Failed"));
        assert_eq!(at(&discovery, "n1"), None);
    }

    #[test]
    fn a_new_pod_of_the_same_node_takes_over() {
        let mut discovery = discovery();
        discovery.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Running"));
        discovery.apply(pod("a2", "DaemonSet", "n1", "10.0.0.9", "Running"));
        discovery.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Succeeded"));
        assert_eq!(at(&discovery, "n1"), Some(9));
    }

    #[test]
    fn a_text_that_names_no_exporter_is_explained() {
        for wrong in ["", "dcgm", "a/b", "a/b:0", "a/b:x", "/b:1"] {
            let error = wrong.parse::<ExporterName>().unwrap_err();
            assert!(error.contains("NAMESPACE/DAEMONSET:PORT"), "{error}");
        }
    }
}

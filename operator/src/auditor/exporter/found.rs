//! Which exporter speaks for which node.
//!
//! Only pods count that the `DaemonSet` controls which the installation names, each for the node it
//! runs on. A label proves nothing: whoever may create a pod could wear it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use daylight_base::Name;
use rustc_hash::FxHashMap;

use daylight_cluster::slim::ExporterPod;
use daylight_cluster::store::Store;
use daylight_cluster::{Change, Round};

/// The exporter that an installation names: a `DaemonSet` and a port of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterName {
    /// The namespace of the `DaemonSet`.
    pub namespace: String,
    pub daemon_set: String,
    /// Where its pods serve `/metrics`.
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
                "{text:?} names no exporter; write NAMESPACE/DAEMONSET:PORT, such as \
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

/// The exporters that were found.
#[derive(Debug)]
pub struct Found {
    daemon_set: String,
    pods: Store<ExporterPod>,
    at: FxHashMap<Name, (Name, IpAddr)>,
}

impl Found {
    /// None yet.
    pub fn new(exporter: &ExporterName) -> Self {
        Self {
            daemon_set: exporter.daemon_set.clone(),
            pods: Store::default(),
            at: FxHashMap::default(),
        }
    }

    /// Takes in what the watch of the exporter's namespace saw.
    pub fn apply(&mut self, change: Change<ExporterPod>) {
        for touched in self.pods.apply(change) {
            if let Some(node) = touched.before.as_ref().and_then(|pod| pod.node.as_ref())
                && self.at.get(node).is_some_and(|(pod, _)| *pod == touched.key)
            {
                self.at.remove(node);
            }
            if let Some(pod) = self.pods.get(&touched.key)
                && pod.runs
                && pod.daemon_set.as_deref() == Some(&*self.daemon_set)
                && let (Some(node), Some(ip)) = (&pod.node, pod.ip)
            {
                self.at.insert(node.clone(), (touched.key, ip));
            }
        }
    }

    /// Where the exporter of a node is.
    pub fn of(&self, node: &str) -> Option<IpAddr> {
        self.at.get(node).map(|(_, ip)| *ip)
    }

    /// All nodes that have one.
    pub fn nodes(&self) -> impl Iterator<Item = (&Name, IpAddr)> {
        self.at.iter().map(|(node, (_, ip))| (node, *ip))
    }

    /// Whether the namespace was listed.
    pub fn listed(&self) -> Option<Round> {
        self.pods.listed()
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

    #[test]
    fn only_pods_of_the_named_daemon_set_speak_for_their_node() {
        let name: ExporterName = "gpu-operator/dcgm:9400".parse().unwrap();
        let mut found = Found::new(&name);
        found.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Running"));
        found.apply(pod("b", "ReplicaSet", "n2", "10.0.0.2", "Running"));
        found.apply(pod("c", "DaemonSet", "n3", "10.0.0.3", "Pending"));
        assert_eq!(found.of("n1"), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!((found.of("n2"), found.of("n3")), (None, None));
        found.apply(pod("c", "DaemonSet", "n3", "10.0.0.3", "Running"));
        assert_eq!(found.nodes().count(), 2);
        found.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Failed"));
        assert_eq!(found.of("n1"), None);
    }

    #[test]
    fn a_new_pod_of_the_same_node_takes_over() {
        let name: ExporterName = "gpu-operator/dcgm:9400".parse().unwrap();
        let mut found = Found::new(&name);
        found.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Running"));
        found.apply(pod("a2", "DaemonSet", "n1", "10.0.0.9", "Running"));
        found.apply(pod("a", "DaemonSet", "n1", "10.0.0.1", "Succeeded"));
        assert_eq!(found.of("n1"), Some(IpAddr::from([10, 0, 0, 9])));
    }

    #[test]
    fn a_name_that_is_none_is_explained() {
        for wrong in ["", "dcgm", "a/b", "a/b:0", "a/b:x", "/b:1"] {
            let error = wrong.parse::<ExporterName>().unwrap_err();
            assert!(error.contains("NAMESPACE/DAEMONSET:PORT"), "{error}");
        }
    }
}

//! A grant as a pod.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use daylight_base::Timestamp;
use daylight_crds::labels::{
    ACTIVITY, EPOCH, MANAGED_BY, METERED_FINALIZER, MINER, POOL, REGISTRATION, SIMULATED_PREFIX,
    SLOT,
};
use daylight_crds::{GpuPoolSpec, Miner};
use daylight_planner::explain::Grant;
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
    PodSecurityContext, PodSpec, SeccompProfile,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use sha2::{Digest as _, Sha256};

use daylight_cluster::names::parts;
use daylight_cluster::well_known::{KUEUE_UNCONSTRAINED, MINER_PRIORITY_CLASS, REVISION};
use daylight_cluster::well_known::{SAFE_TO_EVICT, UNTIL, WATTS};

/// The data from which a miner's pod is built.
#[derive(Clone, Copy, Debug)]
pub struct MinerPod<'a> {
    pub grant: &'a Grant,
    pub miner: &'a Miner,
    /// The class of its registration.
    pub class: &'a str,
    pub pool: &'a GpuPoolSpec,
    /// Number of times that the slot was granted to the miner before.
    pub epoch: u32,
    /// The planner's revision of the miner.
    pub revision: u64,
    /// The time of the grant.
    pub now: Timestamp,
    /// `true` if an auditor records the pod's end.
    pub metered: bool,
    /// Time after which its agent stops mining if no auditor scrapes it; `None` sets no limit.
    pub lease: Option<Duration>,
    /// The commitment of its registration to a wallet, if it has one.
    pub wallet: Option<&'a str>,
}

/// The user that miners run as.
const USER: i64 = 65532;

/// The longest part of a pod's name that is taken from the miner's.
const PREFIX: usize = 40;

/// The name of the pod that holds a slot. It is the same for the same grant, so that of two
/// processes that make the grant one fails. At most 63 characters.
pub fn pod_name(miner: &str, namespace: &str, node: &str, slot: u32, epoch: u32) -> String {
    let mut hash = Sha256::new();
    for part in [namespace, "/", miner, "\n", node] {
        hash.update(part);
    }
    let prefix = miner.get(..PREFIX).unwrap_or(miner).trim_end_matches(['-', '.']);
    let mut name = String::with_capacity(63);
    name.push_str(prefix);
    name.push('-');
    name.push_str(&hex::encode(&hash.finalize()[..4]));
    let _ = write!(name, "-{slot}-{epoch}");
    name
}

impl MinerPod<'_> {
    /// Name of the pod, by [`pod_name`].
    pub fn name(&self) -> String {
        pod_name(
            &self.miner.name_any(),
            &self.namespace(),
            &self.grant.node,
            self.grant.slot,
            self.epoch,
        )
    }

    fn namespace(&self) -> String {
        self.miner.namespace().unwrap_or_default()
    }

    /// Watts declared for a replica.
    pub fn watts(&self) -> u64 {
        self.miner.spec.watts_per_replica.unwrap_or(0).into()
    }

    /// Builds the pod.
    pub fn build(&self) -> Pod {
        Pod { metadata: self.metadata(), spec: Some(self.spec()), status: None }
    }

    fn metadata(&self) -> ObjectMeta {
        let labels = BTreeMap::from([
            (MINER.into(), self.miner.name_any()),
            (REGISTRATION.into(), parts(&self.grant.registration).1.into()),
            (ACTIVITY.into(), self.class.into()),
            (POOL.into(), self.grant.pool.to_string()),
            (SLOT.into(), self.grant.slot.to_string()),
            (EPOCH.into(), self.epoch.to_string()),
            (REVISION.into(), self.revision.to_string()),
            (WATTS.into(), self.watts().to_string()),
            ("app.kubernetes.io/managed-by".into(), MANAGED_BY.into()),
        ]);
        let mut annotations: BTreeMap<String, String> = self
            .miner
            .annotations()
            .iter()
            .filter(|(key, _)| key.starts_with(SIMULATED_PREFIX))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        // Mining never keeps a node from being scaled down.
        annotations.insert(SAFE_TO_EVICT.into(), "true".into());
        // Kueue's topology-aware scheduling does not know that kube-scheduler preempts miners. It
        // would see no room on their nodes, and never admit a job that the pool has room for.
        annotations.insert(KUEUE_UNCONSTRAINED.into(), "true".into());
        if let Some(until) = self.grant.until.and_then(rfc3339) {
            annotations.insert(UNTIL.into(), until);
        }
        ObjectMeta {
            name: Some(self.name()),
            namespace: self.miner.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: self.miner.controller_owner_ref(&()).map(|owner| vec![owner]),
            finalizers: self.metered.then(|| vec![METERED_FINALIZER.into()]),
            ..ObjectMeta::default()
        }
    }

    fn spec(&self) -> PodSpec {
        let (container, volumes) = self.container();
        PodSpec {
            containers: vec![container],
            affinity: Some(pinned_to(&self.grant.node)),
            tolerations: (!self.pool.tolerations.is_empty()).then(|| self.pool.tolerations.clone()),
            runtime_class_name: self.pool.runtime_class_name.clone(),
            priority_class_name: Some(MINER_PRIORITY_CLASS.into()),
            restart_policy: Some("Never".into()),
            termination_grace_period_seconds: i64::try_from(self.grant.grace.as_secs()).ok(),
            active_deadline_seconds: self.deadline(),
            automount_service_account_token: Some(false),
            volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }
    }

    /// Whole seconds until it must begin to stop, so that it has stopped by `until` even where
    /// its kubelet is cut off from the API server. Kubernetes takes 1 to 2^31 - 1.
    fn deadline(&self) -> Option<i64> {
        let left = self.grant.until?.since(self.now).saturating_sub(self.grant.grace);
        Some(i64::from(i32::try_from(left.as_secs()).unwrap_or(i32::MAX).max(1)))
    }
}

/// An affinity for one node only.
fn pinned_to(node: &str) -> Affinity {
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_fields: Some(vec![NodeSelectorRequirement {
                        key: "metadata.name".into(),
                        operator: "In".into(),
                        values: Some(vec![node.into()]),
                    }]),
                    match_expressions: None,
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// The time in RFC 3339.
pub(crate) fn rfc3339(at: Timestamp) -> Option<String> {
    jiff::Timestamp::from_millisecond(at.0).ok().map(|at| at.to_string())
}

#[cfg(test)]
mod tests {
    use daylight_crds::{Agent, GpuPool};
    use serde_json::json;

    use super::*;

    fn miner(name: &str) -> Miner {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Miner",
            "metadata": {
                "name": name, "namespace": "team-a", "uid": "5b1c",
                "annotations": {"daylight.dev/simulated-drain": "2s", "other": "kept away"},
            },
            "spec": {
                "registration": "night-shift", "replicas": 4, "gpusPerReplica": 2,
                "image": "registry.example.com/miners/kaspa:1.4",
                "engine": {"name": "kaspa", "args": ["--quiet"], "algorithm": "kheavyhash"},
                "poolEndpoints": ["stratum+tcp://a.example.com:5555", "b.example.com:5555"],
                "walletSecretRef": {"name": "wallet"},
                "env": [{"name": "REGION", "value": "eu"}],
                "wattsPerReplica": 600,
            },
        }))
        .unwrap()
    }

    fn pool() -> GpuPool {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
            "metadata": {"name": "hall-1"},
            "spec": {
                "nodeSelector": {"matchLabels": {"gpu": "true"}},
                "resource": "nvidia.com/gpu", "site": {"name": "oslo"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            },
        }))
        .unwrap()
    }

    fn grant() -> Grant {
        Grant {
            miner: "team-a/kaspa".into(),
            registration: "team-a/night-shift".into(),
            pool: "hall-1".into(),
            node: "gpu-017.hall-1.example.com".into(),
            slot: 3,
            grace: Duration::from_secs(10),
            until: Some(Timestamp::from_seconds(1_700_003_600)),
        }
    }

    /// Without an auditor, an agent's lease and a registered wallet.
    fn pod<'a>(grant: &'a Grant, miner: &'a Miner, pool: &'a GpuPool) -> MinerPod<'a> {
        MinerPod {
            grant,
            miner,
            class: "pow-mining",
            pool: &pool.spec,
            epoch: 1,
            revision: 7,
            now: Timestamp(1_700_000_000_400),
            metered: false,
            lease: None,
            wallet: None,
        }
    }

    #[test]
    fn a_grant_becomes_a_pod() {
        let (miner, pool, grant) = (miner("kaspa"), pool(), grant());
        let pod = MinerPod { metered: true, ..pod(&grant, &miner, &pool) };
        insta::assert_yaml_snapshot!(pod.build());
    }

    #[test]
    fn daylights_own_agent_gets_probes_and_the_registered_wallet() {
        let (mut miner, mut pool, grant) = (miner("kaspa"), pool(), grant());
        pool.spec.runtime_class_name = Some("nvidia".into());
        miner.spec.agent = Agent::Daylight;
        let added = json!({
            "engine": {"name": "sha256d", "configRef": {"name": "miner"}},
            "walletSecretRef": {"name": "wallet", "saltKey": "salt"},
            "poolPasswordSecretRef": {"name": "password"},
            "poolCertificates": [{"endpoint": "a.example.com:5555", "sha256": "ab".repeat(32)}],
            "resources": {"hugePages2Mi": "2400Mi"},
        });
        let mut spec = serde_json::to_value(&miner.spec).unwrap();
        for (key, value) in added.as_object().unwrap() {
            spec[key] = value.clone();
        }
        miner.spec = serde_json::from_value(spec).unwrap();
        let pod = MinerPod {
            lease: Some(Duration::from_mins(10)),
            wallet: Some("sha256:abcd"),
            ..pod(&grant, &miner, &pool)
        };
        insta::assert_yaml_snapshot!(pod.build().spec);
    }

    #[test]
    fn without_an_end_there_is_no_deadline_and_without_an_auditor_no_finalizer() {
        let (miner, pool) = (miner("kaspa"), pool());
        let grant = Grant { until: None, ..grant() };
        let pod = pod(&grant, &miner, &pool).build();
        assert_eq!(pod.spec.unwrap().active_deadline_seconds, None);
        assert_eq!(pod.metadata.finalizers, None);
    }

    #[test]
    fn names_fit_into_a_host_name_and_distinguish_grants() {
        let long = "m".repeat(63);
        let name = pod_name(&long, "n", &"x".repeat(253), 15, 99_999);
        assert!(name.len() <= 63, "{name}");
        assert_eq!(name, pod_name(&long, "n", &"x".repeat(253), 15, 99_999));
        let names = [
            pod_name("a-b", "n", "c", 0, 0),
            pod_name("a", "n", "b-c", 0, 0),
            pod_name("a", "n", "c", 0, 0),
            pod_name("a", "n", "c", 1, 0),
            pod_name("a", "n", "c", 0, 1),
            pod_name("a", "n2", "c", 0, 0),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        let cut = format!("{}-b", "a".repeat(39));
        assert!(!pod_name(&cut, "n", "c", 0, 0).contains("--"));
    }
}

//! Verdicts on registrations: the validity of an approval for the present content.

use std::sync::Arc;

use daylight_cluster::names::{key, parts};
use daylight_cluster::{Cluster, Kind, timestamp};
use daylight_crds::{ApprovalState, Assignment, Registration};
use daylight_planner::model::Approval;

use super::digest;
use super::energy::owner_limits;
use crate::registration_signature::{self, AuthorityKeys};

/// The authority's keys, and the rule for its signature.
#[derive(Debug, Default)]
pub struct Authority {
    signature_required: bool,
    keys: AuthorityKeys,
}

/// A finding about one registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub approval: Approval,
    /// The digest of the registration with its class and pools as they are now.
    pub digest: String,
    /// Contradiction with another object, in one sentence.
    pub problem: Option<Arc<str>>,
}

impl Authority {
    /// Accepts approvals with or without the authority's signature.
    pub fn new(signature_required: bool) -> Self {
        Self { signature_required, keys: AuthorityKeys::default() }
    }

    /// Returns `true` if no approval counts without the authority's signature.
    pub fn requires_signatures(&self) -> bool {
        self.signature_required
    }

    /// The authority's keys, each as its 32 bytes in base64.
    pub fn keys(&self) -> Vec<String> {
        self.keys.in_base64()
    }

    /// Reads the authority's keys again.
    pub fn read_keys(&mut self, cluster: &Cluster) {
        let map = cluster.config_map(Kind::AuthorityKeys);
        let entries = map.into_iter().flat_map(|map| &map.data);
        let (keys, unread) = AuthorityKeys::read(entries.map(|(id, key)| (&**id, &**key)));
        for id in unread {
            tracing::error!(%id, "A key of the authority is neither PEM nor 32 bytes in base64; correct it in the ConfigMap of keys.");
        }
        self.keys = keys;
    }

    /// Judges a registration as it is now.
    pub fn verdict(&self, cluster: &Cluster, registration: &Registration) -> Verdict {
        let digest = digest_of(cluster, registration);
        Verdict {
            approval: self.approval(registration, &digest),
            problem: at_another_site(cluster, registration)
                .or_else(|| not_for_miners(cluster, registration))
                .or_else(|| unlike_predecessor(cluster, registration))
                .map(Arc::from),
            digest,
        }
    }

    fn approval(&self, registration: &Registration, digest: &str) -> Approval {
        let status = registration.status.as_ref();
        let Some(approval) = status.and_then(|status| status.approval.as_ref()) else {
            return Approval::Pending;
        };
        match approval.state {
            ApprovalState::Rejected => return Approval::Rejected,
            ApprovalState::Suspended => return Approval::Suspended,
            ApprovalState::Revoked => return Approval::Revoked,
            ApprovalState::Approved => {}
        }
        let holds = approval.digest_version == digest::VERSION
            && approval.spec_digest.as_deref() == Some(digest);
        if !holds {
            return Approval::Voided;
        }
        if !self.signature_required {
            return Approval::Approved;
        }
        let Some(signature) = &approval.signature else { return Approval::Unsigned };
        let message = registration_signature::message(registration, digest);
        match self.keys.verify(&message, signature) {
            Ok(_) => Approval::Approved,
            Err(_) => Approval::WronglySigned,
        }
    }
}

/// The digest of a registration with its class and pools as they are now.
pub(super) fn digest_of(cluster: &Cluster, registration: &Registration) -> String {
    let class = cluster.class(&registration.spec.activity_class).map(AsRef::as_ref);
    digest::spec_digest(registration, class, |pool| cluster.pool(pool).map(AsRef::as_ref))
}

/// Names what changed after the approval of a registration and voids it, as far as that can be known:
/// the approval has no more than a digest of what it covers.
pub(super) fn voided_by(cluster: &Cluster, registration: &Registration) -> String {
    let spec = &registration.spec;
    let status = registration.status.as_ref();
    let Some(approval) = status.and_then(|status| status.approval.as_ref()) else {
        return "there is none".into();
    };
    let approved_at = timestamp(&approval.at);
    let pool = |name: &String| cluster.pools.get(name.as_str());
    if let Some(missing) = spec.pools.iter().find(|name| pool(name).is_none()) {
        return format!("GpuPool {missing}, which it names, does not exist");
    }
    if approval.generation.is_some() && approval.generation != registration.metadata.generation {
        return "its spec was edited".into();
    }
    let newer =
        spec.pools.iter().find(|name| pool(name).is_some_and(|pool| pool.created > approved_at));
    if let Some(newer) = newer {
        return format!("GpuPool {newer}, which it names, was created after it");
    }
    if spec.pools.is_empty() {
        return format!("ActivityClass {} changed", spec.activity_class);
    }
    let pools = spec.pools.join(", ");
    format!(
        "ActivityClass {} or the nodes, resource or site of its pools ({pools}) changed",
        spec.activity_class
    )
}

/// The problem of a registration that names a pool at another site than its own.
fn at_another_site(cluster: &Cluster, registration: &Registration) -> Option<String> {
    let spec = &registration.spec;
    spec.pools.iter().find_map(|name| {
        let site = &cluster.pool(name)?.spec.site.name;
        (*site != spec.site).then(|| {
            format!(
                "spec.pools names {name}, which is at site {site}, but spec.site is {}; register the work at {site} separately.",
                spec.site
            )
        })
    })
}

/// The problem of a registration of a class for miners that lacks what miners need, or limits what
/// they do not have.
fn not_for_miners(cluster: &Cluster, registration: &Registration) -> Option<String> {
    let spec = &registration.spec;
    let class = &spec.activity_class;
    if cluster.class(class)?.spec.assignment != Assignment::IdleOnly {
        return None;
    }
    if spec.pools.is_empty() {
        return Some(format!(
            "spec.pools is empty, but ActivityClass {class} is IdleOnly, so its miners need a GpuPool; name one in spec.pools."
        ));
    }
    spec.limits.replicas.map(|_| {
        format!(
            "spec.limits.replicas counts pods that tenants create, but ActivityClass {class} is IdleOnly; limit its miners by spec.limits.gpus."
        )
    })
}

/// The problem of a registration that cannot renew the one that it names.
fn unlike_predecessor(cluster: &Cluster, registration: &Registration) -> Option<String> {
    let spec = &registration.spec;
    let renews = spec.renews.as_deref()?;
    let metadata = &registration.metadata;
    if metadata.name.as_deref() == Some(renews) {
        return Some("spec.renews names the registration itself; name the one that ends.".into());
    }
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let before = &cluster.registration(&key(namespace, renews))?.spec;
    let differs = if before.activity_class != spec.activity_class {
        "activityClass"
    } else if before.site != spec.site {
        "site"
    } else if before.operator.owner_pseudonym != spec.operator.owner_pseudonym {
        "operator.ownerPseudonym"
    } else {
        return None;
    };
    Some(format!(
        "spec.renews names {renews}, which has another {differs}; a renewal keeps class, site and owner, so file it without renews."
    ))
}

/// The field of a registration or of its pools that limits power or energy, so that its miners
/// must declare their watts.
pub(super) fn power_limit(cluster: &Cluster, name: &str) -> Option<String> {
    let spec = &cluster.registration(name)?.spec;
    let limited =
        |limits: &daylight_crds::Limits| limits.watts.is_some() || limits.energy.is_some();
    if limited(&spec.limits) {
        return Some(format!("Registration {name}"));
    }
    if owner_limits(cluster, spec).any(limited) {
        return Some(format!("the owner of Registration {name}"));
    }
    let mut pools = spec.pools.iter().filter_map(|pool| Some((pool, cluster.pool(pool)?)));
    pools
        .find(|(_, pool)| pool.spec.mining.power_budget_watts.is_some())
        .map(|(pool, _)| format!("GpuPool {pool}"))
}

/// The key of the registration that a miner names; it is in the miner's namespace.
pub(crate) fn registration_of(miner: &str, registration: &str) -> String {
    key(parts(miner).0, registration)
}

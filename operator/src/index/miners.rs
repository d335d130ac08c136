//! Miners.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_crds::{ActivityClassSpec, Miner, MinerSpec, RegistrationSpec};
use daylight_planner::model;
use daylight_planner::model::{Delta, Shape};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::names::parts;
use super::pools::same_spec;
use super::quantity::Quantity;
use super::registrations::registration_of;
use super::slim::Custom;
use super::store::Touched;
use super::{Index, Kind, keys};

impl Index {
    pub(super) fn miner_touched(
        &mut self,
        Touched { key, before }: Touched<Custom<Miner>>,
        out: &mut Vec<Delta>,
    ) {
        if !same_spec(before.as_deref(), self.miners.get(&key), |miner| &miner.spec) {
            self.tell_miner(&key, out);
        }
    }

    pub(super) fn tell_miner(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let (view, problem) = match self.miners.get(key) {
            None => (None, None),
            // Its pods end; it gets no new ones.
            Some(miner) if miner.deleting || self.is_ending(key) => (None, None),
            Some(miner) => match &miner.object {
                Err(problem) => (None, Some(problem.clone())),
                Ok(object) => {
                    let view = self.miner_view(key, miner.created, object);
                    let problem = view.problem.clone();
                    (Some(view), problem)
                }
            },
        };
        self.set_problem(Kind::Miner, key, problem);
        self.given.miner(key, view, out);
    }

    /// Whether the namespace of an object is being deleted: nothing can be created in it.
    fn is_ending(&self, key: &str) -> bool {
        let namespace = self.namespaces.get(parts(key).0);
        namespace.is_some_and(|namespace| namespace.deleting)
    }

    /// Tells again of the miners in a namespace.
    pub(super) fn tell_miners_in(&mut self, namespace: &str, out: &mut Vec<Delta>) {
        for miner in keys(&self.miners) {
            if parts(&miner).0 == namespace {
                self.tell_miner(&miner, out);
            }
        }
    }

    fn miner_view(&self, key: &Name, created: Timestamp, miner: &Miner) -> model::Miner {
        let spec = &miner.spec;
        let registration = self.in_force(registration_of(key, &spec.registration).into());
        let quantity = |field: &str, text: &str| {
            text.parse::<Quantity>().map_err(|error| format!("spec.resources.{field}: {error}."))
        };
        let cpu = quantity("cpu", &spec.resources.cpu.0);
        let memory = quantity("memory", &spec.resources.memory.0);
        let problem = cpu
            .as_ref()
            .err()
            .or(memory.as_ref().err())
            .cloned()
            .or_else(|| self.not_registered(spec, &registration));
        model::Miner {
            key: key.clone(),
            created,
            replicas: spec.replicas,
            shape: Shape {
                gpus: spec.gpus_per_replica,
                cpu_milli: cpu.unwrap_or_default().milli(),
                memory: memory.unwrap_or_default().units(),
            },
            weight: spec.weight.max(1),
            watts: spec.watts_per_replica.unwrap_or(0).into(),
            drain_timeout: spec.drain_timeout.as_duration(),
            pools: spec.pools.iter().map(|pool| Arc::from(pool.as_str())).collect(),
            revision: revision(spec),
            problem: problem.map(Arc::from),
            registration,
        }
    }

    /// What of the miner its registration or class does not cover.
    fn not_registered(&self, spec: &MinerSpec, registration: &str) -> Option<String> {
        let registered = &self.registration(registration)?.spec;
        if spec.watts_per_replica.is_none()
            && let Some(limit) = self.power_limit(registration)
        {
            return Some(format!(
                "spec.wattsPerReplica is missing, and {limit} limits power or energy; declare what a replica draws at most."
            ));
        }
        beyond_registration(spec, registered).or_else(|| {
            let class = self.class(&registered.activity_class)?;
            beyond_class(spec, &registered.activity_class, &class.spec)
        })
    }
}

fn beyond_registration(spec: &MinerSpec, registered: &RegistrationSpec) -> Option<String> {
    let payout = registered.payout.as_ref()?;
    let algorithm = spec.engine.as_ref().and_then(|engine| engine.algorithm.as_ref());
    if let (Some(ours), Some(theirs)) = (algorithm, &payout.algorithm)
        && ours != theirs
    {
        return Some(format!(
            "spec.engine.algorithm is {ours}, and the registration was filed for {theirs}; use that one or register again."
        ));
    }
    if payout.pool_endpoints.is_empty() {
        return None;
    }
    spec.pool_endpoints
        .iter()
        .find(|endpoint| !payout.pool_endpoints.contains(endpoint))
        .map(|endpoint| {
            format!(
                "spec.poolEndpoints has {endpoint}, which the registration does not name in payout.poolEndpoints; remove it or register it."
            )
        })
}

fn beyond_class(spec: &MinerSpec, name: &str, class: &ActivityClassSpec) -> Option<String> {
    let images = &class.allowed_images;
    if !images.is_empty() && !images.iter().any(|pattern| is_like(&spec.image, pattern)) {
        return Some(format!(
            "spec.image is {}, which ActivityClass {name} does not allow; use one that matches {}.",
            spec.image,
            images.join(" or ")
        ));
    }
    let algorithm = spec.engine.as_ref()?.algorithm.as_ref()?;
    (!class.algorithms.is_empty() && !class.algorithms.contains(algorithm)).then(|| {
        format!(
            "spec.engine.algorithm is {algorithm}, which ActivityClass {name} does not allow; use {}.",
            class.algorithms.join(" or ")
        )
    })
}

/// Whether `text` is like `pattern`, in which `*` stands for any run of characters.
pub fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// A number that changes when the miner's pods would have to be made anew: with
/// what runs in them, what they ask for and what was declared for them. How many
/// there are, where they go and how long they may take to stop is not in it.
pub fn revision(spec: &MinerSpec) -> u64 {
    let made_of = json!({
        "registration": spec.registration,
        "gpusPerReplica": spec.gpus_per_replica,
        "image": spec.image,
        "agent": spec.agent,
        "engine": spec.engine,
        "poolEndpoints": spec.pool_endpoints,
        "poolCertificates": spec.pool_certificates,
        "walletSecretRef": spec.wallet_secret_ref,
        "poolPasswordSecretRef": spec.pool_password_secret_ref,
        "env": spec.env,
        "wattsPerReplica": spec.watts_per_replica,
        "resources": spec.resources,
    });
    let canonical = serde_json_canonicalizer::to_vec(&made_of).unwrap_or_default();
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(&canonical)[..8]);
    // Whole in any JSON reader: 53 bits.
    u64::from_be_bytes(first) >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_images() {
        for (text, pattern, expected) in [
            ("r.io/a", "r.io/a", true),
            ("r.io/ab", "r.io/a", false),
            ("r.io/miners/kaspa:1", "r.io/miners/*", true),
            ("r.io/other/kaspa:1", "r.io/miners/*", false),
            ("r.io/a/kaspa:1", "r.io/*/kaspa:*", true),
            ("r.io/a/xkaspa:1", "r.io/*/kaspa:*", false),
            ("r.io/aa", "r.io/*a", true),
            ("r.io/", "r.io/*", true),
            ("anything", "*", true),
            ("r.io/a:1", "r.io/*:1*:1", false),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
    }
}

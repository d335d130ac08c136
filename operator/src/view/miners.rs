//! Miners.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::parts;
use daylight_cluster::quantity::Quantity;
use daylight_cluster::slim::Custom;
use daylight_cluster::{Changed, Kind, keys, same_spec};
use daylight_crds::{ActivityClassSpec, Miner, MinerSpec, RegistrationSpec};
use daylight_planner::model;
use daylight_planner::model::{Delta, Shape};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::View;
use super::authority::{power_limit, registration_of};
use super::image_pattern::matches_pattern;

impl View {
    pub(super) fn miner_changed(
        &mut self,
        Changed { key, before }: Changed<Custom<Miner>>,
        out: &mut Vec<Delta>,
    ) {
        let after = self.cluster.miners.get(&key);
        if after.is_none() {
            self.created.forget_miner(&key);
        }
        if !same_spec(before.as_deref(), after, |miner| &miner.spec) {
            // The image or a setting may be corrected now: it is tried again everywhere.
            for node in self.memories.forget_miner(&key) {
                self.emit_node(&node, out);
            }
            self.emit_miner(&key, out);
        }
    }

    pub(super) fn emit_miner(&mut self, key: &Name, out: &mut Vec<Delta>) {
        let (view, problem) = match self.cluster.miners.get(key) {
            None => (None, None),
            // Reported as gone, so that its pods end and it gets no new ones.
            Some(miner) if miner.deleting || self.is_terminating(key) => (None, None),
            Some(miner) => match &miner.object {
                Err(problem) => (None, Some(problem.clone())),
                Ok(object) => {
                    let view = self.miner_view(key, miner.created, object);
                    let problem = view.problem.clone();
                    (Some(view), problem)
                }
            },
        };
        self.problems.set(Kind::Miner, key, problem);
        self.emitted.miner(key, view, out);
    }

    /// Returns `true` if the namespace of an object is being deleted: nothing can be created in it.
    pub fn is_terminating(&self, key: &str) -> bool {
        self.cluster.namespace(parts(key).0).is_some_and(|namespace| namespace.deleting)
    }

    /// Evaluates the miners in a namespace again.
    pub(super) fn emit_miners_in(&mut self, namespace: &str, out: &mut Vec<Delta>) {
        for miner in keys(&self.cluster.miners) {
            if parts(&miner).0 == namespace {
                self.emit_miner(&miner, out);
            }
        }
    }

    fn miner_view(&self, key: &Name, created: Timestamp, miner: &Miner) -> model::Miner {
        let spec = &miner.spec;
        let named = registration_of(key, &spec.registration).into();
        let registration = self.renewals.in_force(named, &self.emitted.registrations, self.now);
        let quantity = |field: &str, text: &str| {
            text.parse::<Quantity>().map_err(|error| format!("spec.resources.{field}: {error}."))
        };
        let cpu = quantity("cpu", &spec.resources.cpu.0);
        let memory = quantity("memory", &spec.resources.memory.0);
        let huge_pages = match &spec.resources.huge_pages_2mi {
            Some(bytes) => quantity("hugePages2Mi", &bytes.0),
            None => Ok(Quantity::ZERO),
        };
        let problem = cpu
            .as_ref()
            .err()
            .or(memory.as_ref().err())
            .or(huge_pages.as_ref().err())
            .cloned()
            .or_else(|| self.not_registered(spec, &registration));
        let revision = revision(spec);
        let mut shape = Shape {
            gpus: spec.gpus_per_replica,
            cpu_milli: cpu.unwrap_or_default().milli(),
            memory: memory.unwrap_or_default().units(),
            huge_pages: [huge_pages.unwrap_or_default().units(), 0],
        };
        self.add_overhead_of_miner(spec, &registration, &mut shape);
        let requests_changed = self.created.raise_miner(key, revision, &mut shape);
        model::Miner {
            key: key.clone(),
            created,
            replicas: spec.replicas,
            shape,
            weight: spec.weight.max(1),
            watts: spec.watts_per_replica.unwrap_or(0).into(),
            drain_timeout: spec.drain_timeout.as_duration(),
            pools: spec.pools.iter().map(|pool| Arc::from(pool.as_str())).collect(),
            revision,
            requests_changed,
            problem: problem.map(Arc::from),
            registration,
        }
    }

    /// The problem of a miner that its registration or class does not cover.
    fn not_registered(&self, spec: &MinerSpec, registration: &str) -> Option<String> {
        let registered = &self.cluster.registration(registration)?.spec;
        if spec.watts_per_replica.is_none()
            && let Some(limit) = power_limit(&self.cluster, registration)
        {
            return Some(format!(
                "spec.wattsPerReplica is missing, but {limit} limits power or energy; declare the most that a replica draws."
            ));
        }
        beyond_registration(spec, registered).or_else(|| {
            let class = self.cluster.class(&registered.activity_class)?;
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
            "spec.engine.algorithm is {ours}, but the registration is for {theirs}; use {theirs} or file a new registration."
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
                "spec.poolEndpoints has {endpoint}, which is not in the registration's payout.poolEndpoints; remove it or file a new registration."
            )
        })
}

fn beyond_class(spec: &MinerSpec, name: &str, class: &ActivityClassSpec) -> Option<String> {
    let images = &class.allowed_images;
    if !images.is_empty() && !images.iter().any(|pattern| matches_pattern(&spec.image, pattern)) {
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

/// Computes a number that changes when the miner's pods have to be replaced: with the program in
/// them, their requests, and their declared watts.
///
/// The spec is destructured in full, so that a new field does not compile before it is decided here
/// whether it replaces pods.
pub fn revision(spec: &MinerSpec) -> u64 {
    let MinerSpec {
        registration,
        gpus_per_replica,
        image,
        agent,
        engine,
        pool_endpoints,
        pool_certificates,
        wallet_secret_ref,
        pool_password_secret_ref,
        env,
        watts_per_replica,
        resources,
        // The number of pods, their pools and their time to stop do not change a pod.
        replicas: _,
        pools: _,
        weight: _,
        drain_timeout: _,
    } = spec;
    let made_of = json!({
        "registration": registration,
        "gpusPerReplica": gpus_per_replica,
        "image": image,
        "agent": agent,
        "engine": engine,
        "poolEndpoints": pool_endpoints,
        "poolCertificates": pool_certificates,
        "walletSecretRef": wallet_secret_ref,
        "poolPasswordSecretRef": pool_password_secret_ref,
        "env": env,
        "wattsPerReplica": watts_per_replica,
        "resources": resources,
    });
    let canonical = serde_json_canonicalizer::to_vec(&made_of).unwrap_or_default();
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(&canonical)[..8]);
    // 53 bits, so that any JSON reader keeps it exactly.
    u64::from_be_bytes(first) >> 11
}

//! The container of a miner's pod: its environment, its files and its probes.

use std::collections::BTreeMap;

use daylight_agent_api::{env, http};
use daylight_cluster::well_known::MINER_CONTAINER;
use daylight_crds::{Agent, Engine, MinerResources, MinerSpec, PasswordSecret, WalletSecret};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, Probe, ProjectedVolumeSource,
    ResourceRequirements, SecretProjection, SecurityContext, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::miner_pod::MinerPod;

/// The directory of Secrets in the container.
const SECRETS: &str = "/run/secrets/daylight";

/// The directory of the agent's configuration in the container.
const CONFIG: &str = "/run/config/daylight";

impl MinerPod<'_> {
    /// The container, and the pod's volumes.
    ///
    /// The spec is destructured in full, so that a new field does not compile until its effect on the
    /// container is decided here.
    pub(super) fn container(&self) -> (Container, Vec<Volume>) {
        let MinerSpec {
            gpus_per_replica,
            image,
            agent,
            engine,
            pool_endpoints,
            pool_certificates,
            wallet_secret_ref,
            pool_password_secret_ref,
            env: variables,
            resources,
            // What the planner decides from; nothing in the pod depends on it. The watts become a
            // label, the drain time is in the grant's grace period.
            registration: _,
            replicas: _,
            weight: _,
            pools: _,
            drain_timeout: _,
            watts_per_replica: _,
        } = &self.miner.spec;
        let MinerResources { cpu, memory, huge_pages_2mi } = resources;

        let secrets = secrets(wallet_secret_ref.as_ref(), pool_password_secret_ref.as_ref());
        let volumes: Vec<Volume> =
            secrets.into_iter().chain(engine.as_ref().and_then(config)).collect();

        let pins = pool_certificates.iter().map(|pin| format!("{}={}", pin.endpoint, pin.sha256));
        let mut set = Variables::default();
        if let Some(engine) = engine {
            set.engine(engine);
        }
        set.list(env::POOL_ENDPOINTS, pool_endpoints.iter().cloned());
        set.list(env::POOL_PINS, pins);
        if let Some(wallet) = wallet_secret_ref {
            set.plain(env::WALLET_FILE, format!("{SECRETS}/wallet"));
            if wallet.salt_key.is_some() {
                set.plain(env::WALLET_SALT_FILE, format!("{SECRETS}/salt"));
            }
        }
        if let Some(commitment) = self.wallet {
            set.plain(env::WALLET_COMMITMENT, commitment);
        }
        if pool_password_secret_ref.is_some() {
            set.plain(env::POOL_PASSWORD_FILE, format!("{SECRETS}/password"));
        }
        if *agent == Agent::Daylight {
            set.plain(env::LISTEN, format!("{}{}", env::POD_ADDRESS, http::PORT));
            if let Some(lease) = self.lease {
                set.plain(env::LEASE_SECONDS, lease.as_secs().to_string());
            }
        }
        if huge_pages_2mi.is_some() {
            set.plain(env::HUGE_PAGES, "true");
        }
        // The root is read-only, and `kubectl drain` and autoscalers hesitate to end a pod with a
        // volume of its own. Every container has this directory.
        set.plain("TMPDIR", "/dev/shm");
        set.plain(env::DRAIN_SECONDS, self.grant.grace.as_secs().to_string());
        set.field(env::POD_NAME, "metadata.name");
        set.field(env::NODE_NAME, "spec.nodeName");

        let mut resources = BTreeMap::from([
            ("cpu".to_owned(), cpu.clone()),
            ("memory".to_owned(), memory.clone()),
            (self.pool.resource.clone(), Quantity(gpus_per_replica.to_string())),
        ]);
        if let Some(pages) = huge_pages_2mi {
            resources.insert("hugepages-2Mi".to_owned(), pages.clone());
        }
        let mounts: Vec<VolumeMount> = volumes.iter().map(mount).collect();
        let args = engine.as_ref().map(|engine| engine.args.clone());
        let container = Container {
            name: MINER_CONTAINER.into(),
            image: Some(image.clone()),
            args: args.filter(|args| !args.is_empty()),
            // The miner's own variables come first, so that it cannot replace those that Daylight
            // sets: of two with one name the last counts.
            env: Some(variables.iter().cloned().chain(set.0).collect()),
            volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
            resources: Some(ResourceRequirements {
                limits: Some(resources.clone()),
                requests: Some(resources),
                ..ResourceRequirements::default()
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".into()]),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let container = match agent {
            Agent::Daylight => with_agent(container),
            Agent::Other => container,
        };
        (container, volumes)
    }
}

/// Environment variables that Daylight sets.
#[derive(Default)]
struct Variables(Vec<EnvVar>);

impl Variables {
    fn plain(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(EnvVar { name: name.into(), value: Some(value.into()), value_from: None });
    }

    /// A list in one variable; none if it is empty.
    fn list(&mut self, name: &str, values: impl Iterator<Item = String>) {
        let values: Vec<String> = values.collect();
        if !values.is_empty() {
            self.plain(name, values.join(","));
        }
    }

    fn field(&mut self, name: &str, path: &str) {
        let field_ref = Some(ObjectFieldSelector { field_path: path.into(), api_version: None });
        let value_from = Some(EnvVarSource { field_ref, ..EnvVarSource::default() });
        self.0.push(EnvVar { name: name.into(), value: None, value_from });
    }

    fn engine(&mut self, engine: &Engine) {
        // The arguments are the container's.
        let Engine { name, args: _, algorithm, config_ref } = engine;
        if config_ref.is_some() {
            self.plain(env::CONFIG, format!("{CONFIG}/miner.toml"));
        }
        self.plain(env::ENGINE, name.as_str());
        if let Some(algorithm) = algorithm {
            self.plain(env::ALGORITHM, algorithm.as_str());
        }
    }
}

/// Adds the port and the probes of Daylight's own agent.
fn with_agent(container: Container) -> Container {
    Container {
        ports: Some(vec![ContainerPort {
            name: Some("metrics".into()),
            container_port: http::PORT.into(),
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(probe(http::READY_PATH, 2, 1)),
        // An agent that does not answer for a minute cannot drain either.
        liveness_probe: Some(probe(http::LIVE_PATH, 10, 6)),
        ..container
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.into(), path: path.into(), ..KeyToPath::default() }
}

/// Wallet and password as files. Projected Secrets do not keep `kubectl drain` or autoscalers from
/// ending the pod, as a volume with data of its own would.
fn secrets(wallet: Option<&WalletSecret>, password: Option<&PasswordSecret>) -> Option<Volume> {
    let secret = |name: &str, items: Vec<KeyToPath>| VolumeProjection {
        secret: Some(SecretProjection {
            name: name.into(),
            items: Some(items),
            // The agent reports a missing Secret; kubelet would wait for it while the pod holds GPUs.
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    };
    let wallet = wallet.map(|wallet| {
        let salt = wallet.salt_key.iter().map(|key| item(key, "salt"));
        secret(&wallet.name, [item(&wallet.key, "wallet")].into_iter().chain(salt).collect())
    });
    let password =
        password.map(|password| secret(&password.name, vec![item(&password.key, "password")]));
    let sources: Vec<_> = wallet.into_iter().chain(password).collect();
    (!sources.is_empty()).then(|| Volume {
        name: "secrets".into(),
        projected: Some(ProjectedVolumeSource {
            // The miner does not run in root's group.
            default_mode: Some(0o444),
            sources: Some(sources),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    })
}

/// The engine's configuration as a file.
fn config(engine: &Engine) -> Option<Volume> {
    engine.config_ref.as_ref().map(|config| Volume {
        name: "config".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config.name.clone(),
            items: Some(vec![item(&config.key, "miner.toml")]),
            optional: Some(true),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    })
}

fn mount(volume: &Volume) -> VolumeMount {
    VolumeMount {
        mount_path: if volume.config_map.is_some() { CONFIG } else { SECRETS }.into(),
        name: volume.name.clone(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// A probe of the agent at this path.
fn probe(path: &str, every_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(http::PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(every_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

//! The container of a miner's pod: what it is told, and how it is asked.

use std::collections::BTreeMap;

use daylight_crds::Agent;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
    HTTPGetAction, KeyToPath, ObjectFieldSelector, Probe, ProjectedVolumeSource,
    ResourceRequirements, SecretProjection, SecurityContext, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::miner_pod::MinerPod;

/// Where Secrets are mounted in its container.
const SECRETS: &str = "/run/secrets/daylight";

/// Where its configuration is mounted.
const CONFIG: &str = "/run/config/daylight";

/// Where the agent answers.
const AGENT_PORT: i32 = 9735;

impl MinerPod<'_> {
    /// The container, with all of the pod's volumes.
    pub(super) fn container(&self, volumes: &[Volume]) -> Container {
        let spec = &self.miner.spec;
        let gpus = Quantity(spec.gpus_per_replica.to_string());
        let mut resources = BTreeMap::from([
            ("cpu".to_owned(), spec.resources.cpu.clone()),
            ("memory".to_owned(), spec.resources.memory.clone()),
            (self.pool.resource.clone(), gpus),
        ]);
        if let Some(pages) = &spec.resources.huge_pages_2mi {
            resources.insert("hugepages-2Mi".to_owned(), pages.clone());
        }
        let mounts: Vec<VolumeMount> = volumes
            .iter()
            .map(|volume| VolumeMount {
                mount_path: if volume.config_map.is_some() { CONFIG } else { SECRETS }.into(),
                name: volume.name.clone(),
                read_only: Some(true),
                ..VolumeMount::default()
            })
            .collect();
        let agent = spec.agent == Agent::Daylight;
        let engine_args = spec.engine.as_ref().map(|engine| engine.args.clone());
        Container {
            name: "miner".into(),
            image: Some(spec.image.clone()),
            args: engine_args.filter(|args| !args.is_empty()),
            env: Some(self.env()),
            volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
            ports: agent.then(|| {
                vec![ContainerPort {
                    name: Some("metrics".into()),
                    container_port: AGENT_PORT,
                    ..ContainerPort::default()
                }]
            }),
            readiness_probe: agent.then(|| probe("/readyz", 2, 1)),
            // An agent that does not answer for a minute cannot drain either.
            liveness_probe: agent.then(|| probe("/livez", 10, 6)),
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
        }
    }

    /// The Secrets and the configuration that it names, as files. Neither makes `kubectl drain` or
    /// autoscalers ask before they end it, as a volume with data of its own would.
    pub(super) fn volumes(&self) -> Vec<Volume> {
        let spec = &self.miner.spec;
        let item = |key: &str, path: &str| KeyToPath {
            key: key.into(),
            path: path.into(),
            ..KeyToPath::default()
        };
        let secret = |name: &str, items: Vec<KeyToPath>| VolumeProjection {
            secret: Some(SecretProjection {
                name: name.into(),
                items: Some(items),
                // One that is not there is the container's to tell: kubelet would wait for it, with
                // GPUs in hand.
                optional: Some(true),
            }),
            ..VolumeProjection::default()
        };
        let wallet = spec.wallet_secret_ref.as_ref().map(|wallet| {
            let salt = wallet.salt_key.iter().map(|key| item(key, "salt"));
            secret(&wallet.name, [item(&wallet.key, "wallet")].into_iter().chain(salt).collect())
        });
        let password = spec
            .pool_password_secret_ref
            .as_ref()
            .map(|password| secret(&password.name, vec![item(&password.key, "password")]));
        let sources: Vec<_> = wallet.into_iter().chain(password).collect();
        let secrets = (!sources.is_empty()).then(|| Volume {
            name: "secrets".into(),
            projected: Some(ProjectedVolumeSource {
                // The miner's user is none of root's group.
                default_mode: Some(0o444),
                sources: Some(sources),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        });
        let config = spec.engine.as_ref().and_then(|engine| engine.config_ref.as_ref());
        let config = config.map(|config| Volume {
            name: "config".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: config.name.clone(),
                items: Some(vec![item(&config.key, "miner.toml")]),
                optional: Some(true),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        });
        secrets.into_iter().chain(config).collect()
    }

    /// What the image is told. The miner's own variables come first, so that it cannot replace
    /// those that Daylight sets: of two with one name the last counts.
    fn env(&self) -> Vec<EnvVar> {
        let spec = &self.miner.spec;
        let plain = |name: &str, value: String| EnvVar {
            name: name.into(),
            value: Some(value),
            value_from: None,
        };
        let field = |name: &str, path: &str| EnvVar {
            name: name.into(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { field_path: path.into(), api_version: None }),
                ..EnvVarSource::default()
            }),
        };
        let mut env = spec.env.clone();
        if let Some(engine) = &spec.engine {
            if engine.config_ref.is_some() {
                env.push(plain("DAYLIGHT_MINER_CONFIG", format!("{CONFIG}/miner.toml")));
            }
            env.push(plain("ENGINE", engine.name.clone()));
            if let Some(algorithm) = &engine.algorithm {
                env.push(plain("ALGORITHM", algorithm.clone()));
            }
        }
        if !spec.pool_endpoints.is_empty() {
            env.push(plain("POOL_ENDPOINTS", spec.pool_endpoints.join(",")));
        }
        if !spec.pool_certificates.is_empty() {
            let pins = spec.pool_certificates.iter();
            let pins: Vec<_> = pins.map(|pin| format!("{}={}", pin.endpoint, pin.sha256)).collect();
            env.push(plain("POOL_PINS", pins.join(",")));
        }
        if let Some(wallet) = &spec.wallet_secret_ref {
            env.push(plain("WALLET_FILE", format!("{SECRETS}/wallet")));
            if wallet.salt_key.is_some() {
                env.push(plain("WALLET_SALT_FILE", format!("{SECRETS}/salt")));
            }
        }
        if let Some(commitment) = self.wallet {
            env.push(plain("WALLET_COMMITMENT", commitment.to_owned()));
        }
        if spec.pool_password_secret_ref.is_some() {
            env.push(plain("POOL_PASSWORD_FILE", format!("{SECRETS}/password")));
        }
        if spec.agent == Agent::Daylight {
            env.push(plain("DAYLIGHT_MINER_LISTEN", format!("pod:{AGENT_PORT}")));
            if let Some(lease) = self.lease {
                env.push(plain("DAYLIGHT_LEASE_SECONDS", lease.as_secs().to_string()));
            }
        }
        if spec.resources.huge_pages_2mi.is_some() {
            env.push(plain("HUGE_PAGES", "true".into()));
        }
        // The root is read-only, and a volume of the pod's own would make `kubectl drain` and
        // autoscalers ask before they end it: every container has this one.
        env.push(plain("TMPDIR", "/dev/shm".into()));
        env.push(plain("DRAIN_SECONDS", self.grant.grace.as_secs().to_string()));
        env.push(field("POD_NAME", "metadata.name"));
        env.push(field("NODE_NAME", "spec.nodeName"));
        env
    }
}

/// The agent is asked at this path.
fn probe(path: &str, every_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(AGENT_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(every_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

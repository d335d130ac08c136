//! Kueue, which queues Jobs and pods in front of kube-scheduler.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::{Component, ControlPlane, GoProgram, scratch};

const MODULE: &str = "sigs.k8s.io/kueue";
const NAMESPACE: &str = "kueue-system";
/// The Secret from which Kueue takes the certificate of its webhooks.
const SECRET: &str = "kueue-webhook-server-cert";
/// The Service by which the API server calls its webhooks.
const SERVICE: &str = "kueue-webhook-service";
/// Definitions of more than one version, which Kueue converts.
const CONVERTED: [&str; 5] =
    ["clusterqueues", "cohorts", "localqueues", "multikueueclusters", "workloads"];

/// Builds Kueue, unless it is in the cache, and returns its path. The first time this takes about 3
/// minutes on two cores. Blocks.
pub fn build() -> Result<PathBuf> {
    program().build()
}

fn program() -> GoProgram {
    GoProgram {
        name: "kueue",
        title: "Kueue",
        sources: Path::new(env!("CARGO_MANIFEST_DIR")).join("kueue"),
        package: "sigs.k8s.io/kueue/cmd/kueue",
        linker_flags: "-s -w".to_owned(),
        takes: Some("about 3 minutes"),
        instead: "",
    }
}

/// Returns Kueue's arguments.
pub(crate) fn arguments(directory: &Path, kubeconfig: &Path) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("--zap-log-level=2")];
    for (flag, value) in [("--kubeconfig=", kubeconfig), ("--config=", &configuration(directory))] {
        let mut argument = OsString::from(flag);
        argument.push(value);
        arguments.push(argument);
    }
    arguments
}

fn configuration(directory: &Path) -> PathBuf {
    directory.join("kueue").join("configuration.json")
}

impl ControlPlane {
    /// Stops Kueue if it runs, and starts it with the top-level fields of `configuration` in place of
    /// its own. Workloads stay as they are.
    pub async fn restart_kueue(&self, configuration: Value) -> Result<()> {
        if self.process_id(Component::Kueue).is_some() {
            self.stop_component(Component::Kueue).await?;
        }
        self.configure_kueue(configuration)?;
        self.start_component(Component::Kueue).await
    }

    fn configure_kueue(&self, changes: Value) -> Result<()> {
        let directory = self.scratch.directory("kueue")?;
        // What the release ships, without leader election, and with the frameworks whose kinds
        // are installed.
        let mut all = json!({
            "apiVersion": "config.kueue.x-k8s.io/v1beta2",
            "kind": "Configuration",
            "namespace": NAMESPACE,
            "health": {"healthProbeBindAddress": format!("127.0.0.1:{}", self.ports.kueue_health)},
            "metrics": {"bindAddress": "0"},
            "webhook": {"host": "127.0.0.1", "port": self.ports.kueue, "certDir": directory},
            "leaderElection": {"leaderElect": false},
            "clientConnection": {"qps": 500, "burst": 1000},
            "integrations": {"frameworks": ["batch/job", "pod", "deployment", "statefulset"]},
            "featureGates": {"VisibilityOnDemand": false},
        });
        if let (Value::Object(all), Value::Object(changes)) = (&mut all, changes) {
            all.extend(changes);
        }
        scratch::write(&configuration(self.scratch.path()), all.to_string())
    }

    /// Creates what Kueue needs at its start: its definitions, webhooks, Service, and configuration.
    pub(crate) async fn install_kueue(&self) -> Result<()> {
        if !configuration(self.scratch.path()).is_file() {
            self.configure_kueue(Value::Null)?;
        }
        let services: Api<Service> = Api::namespaced(self.client(), NAMESPACE);
        let installed = services.get_opt(SERVICE).await;
        if installed.map_err(Error::request("reading a Service"))?.is_some() {
            return Ok(());
        }
        let sources = tokio::task::spawn_blocking(|| program().module(MODULE))
            .await
            .map_err(std::io::Error::other)
            .map_err(Error::io("finding", MODULE))??
            .join("config/components");
        let port = self.ports.kueue;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        });
        // Kueue fills it, and hands its authority to the API server.
        let certificate = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": NAMESPACE},
        });
        // The API server calls an external name as it is, which needs no cluster's network.
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        });
        let mut manifests = vec![namespace.to_string(), certificate.to_string()];
        manifests.extend(definitions(&sources.join("crd/bases"), port)?);
        manifests.push(webhooks(&read(&sources.join("webhook/manifests.yaml"))?, port));
        manifests.push(service.to_string());
        self.apply_large(&manifests.join("\n---\n")).await.map(drop)
    }

    /// Writes Kueue's certificate to where it reads it, once it has made one, as a kubelet would.
    pub(crate) async fn mount_kueue_certificate(&self) -> Result<()> {
        let directory = self.scratch.directory("kueue")?;
        if directory.join("tls.crt").is_file() {
            return Ok(());
        }
        let secrets: Api<Secret> = Api::namespaced(self.client(), NAMESPACE);
        let secret = secrets.get(SECRET).await.map_err(Error::request("reading a Secret"))?;
        // The certificate last: it shows that all are there.
        for file in ["ca.crt", "tls.key", "tls.crt"] {
            let Some(content) = secret.data.as_ref().and_then(|data| data.get(file)) else {
                return Ok(());
            };
            scratch::write(&directory.join(file), &content.0)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("reading", path))
}

/// Returns Kueue's definitions, with the conversion that its installation adds to them.
fn definitions(directory: &Path, port: u16) -> Result<Vec<String>> {
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map_err(Error::io("reading", directory))?;
    paths.sort();
    let conversion = format!(
        "\nspec:\n  conversion:\n    strategy: Webhook\n    webhook:\n      clientConfig:\n        \
         service: {{name: {SERVICE}, namespace: {NAMESPACE}, port: {port}, path: /convert}}\n      \
         conversionReviewVersions: [v1]\n"
    );
    paths
        .iter()
        .map(|path| {
            let text = read(path)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let converted = CONVERTED.iter().any(|kind| name.ends_with(&format!("_{kind}")));
            Ok(if converted { text.replacen("\nspec:\n", &conversion, 1) } else { text })
        })
        .collect()
}

/// Returns Kueue's webhook configurations with the names that its installation gives to them, their
/// Service and its namespace.
fn webhooks(manifests: &str, port: u16) -> String {
    manifests
        .replace("name: mutating-webhook", "name: kueue-mutating-webhook")
        .replace("name: validating-webhook", "name: kueue-validating-webhook")
        .replace("name: webhook-service", &format!("name: {SERVICE}\n      port: {port}"))
        .replace("namespace: system", &format!("namespace: {NAMESPACE}"))
}

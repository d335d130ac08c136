use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::binary::{Programs, until_stdin_closes};
use crate::error::{Error, Result};
use crate::launch::{self, Files, Ports};
use crate::nodes::is_ready;
use crate::options::Options;
use crate::process::{self, Process};
use crate::scratch::Scratch;
use crate::{Component, Nodes, isolation, kueue};

const POLL: Duration = Duration::from_millis(25);
/// The number of the testbed's own requests in flight.
const CONCURRENCY: usize = 64;
/// The number of attempts to start when another program takes one of the ports.
const TRIES: usize = 4;

/// A running control plane. It ends when this is dropped.
pub struct ControlPlane {
    options: Options,
    pub(crate) programs: Programs,
    files: Files,
    pub(crate) ports: Ports,
    client: Client,
    processes: Mutex<BTreeMap<Component, Process>>,
    /// Last, so that it is removed after the processes have ended.
    pub(crate) scratch: Scratch,
}

impl ControlPlane {
    /// Starts a control plane, and waits until it is ready: the API server responds,
    /// and pods can be created in the namespace `default`.
    pub async fn start(options: Options) -> Result<Self> {
        let components = options.components.clone();
        let programs = tokio::task::spawn_blocking(move || {
            if components.contains(&Component::Kueue) {
                kueue::build()?;
            }
            Programs::find(components)
        })
        .await
        .map_err(|error| Error::Io {
            doing: "finding the programs",
            path: "testbed".into(),
            source: std::io::Error::other(error),
        })??;
        let mut tries = 1;
        loop {
            match Self::start_once(&options, &programs).await {
                Err(Error::Ended { log, .. })
                    if tries < TRIES && log.contains("address already in use") =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn start_once(options: &Options, programs: &Programs) -> Result<Self> {
        let scratch = Scratch::new()?;
        if let Programs::Binary(binary) = programs {
            let tools = scratch.directory("bin")?;
            for tool in ["kubectl", "helm"] {
                let link = tools.join(tool);
                std::os::unix::fs::symlink(binary, &link).map_err(Error::io("linking", &link))?;
            }
        }
        let ports = Ports::choose()?;
        let files = Files::new(&scratch, &ports)?;
        let client = client(&files.admin).await?;
        let this = Self {
            options: options.clone(),
            programs: programs.clone(),
            files,
            ports,
            client,
            processes: Mutex::default(),
            scratch,
        };
        this.start_component(Component::Etcd).await?;
        this.start_component(Component::ApiServer).await?;
        futures::future::try_join_all(
            this.options
                .components
                .iter()
                .filter(|component| **component > Component::ApiServer)
                .map(|component| this.start_component(*component)),
        )
        .await?;
        if this.options.components.contains(&Component::ControllerManager) {
            this.wait_for_service_account().await?;
        }
        Ok(this)
    }

    /// A client with all rights (of the group `system:masters`).
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The path of a kubeconfig with all rights.
    pub fn kubeconfig(&self) -> &Path {
        &self.files.admin
    }

    /// The API server's address: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.ports.api_server_url()
    }

    /// A directory that is removed with the control plane. It has the components'
    /// logs in `logs`.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// A component's log.
    pub fn log(&self, component: Component) -> PathBuf {
        self.files.logs.join(format!("{component}.log"))
    }

    /// The id of a component's process, if it runs.
    pub fn process_id(&self, component: Component) -> Option<u32> {
        self.processes().get(&component).map(Process::id)
    }

    /// The resident memory of a component in bytes, if it runs.
    pub fn resident_memory(&self, component: Component) -> Option<u64> {
        process::resident_memory(self.process_id(component)?)
    }

    /// A client with the rights of `user`, which may be a service account:
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub async fn client_for(&self, user: &str) -> Result<Client> {
        let mut config = config(&self.files.admin).await?;
        config.auth_info.impersonate = Some(user.to_owned());
        Client::try_from(config).map_err(Error::request("creating a client"))
    }

    /// A directory with `kubectl` and `helm`, for a `PATH`. With
    /// `KUBEBUILDER_ASSETS` it is that directory, and has no helm.
    pub fn tools(&self) -> PathBuf {
        match &self.programs {
            Programs::Assets(directory) => directory.clone(),
            Programs::Binary(_) => self.directory().join("bin"),
        }
    }

    /// The environment in which kubectl, helm and programs that read
    /// `KUBECONFIG` use this control plane, and none of the user's settings.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let directory = self.directory();
        vec![
            ("KUBECONFIG", self.files.admin.clone()),
            ("KUBECACHEDIR", directory.join("kubectl-cache")),
            ("KUBERC", PathBuf::from("off")),
            ("HELM_CACHE_HOME", directory.join("helm/cache")),
            ("HELM_CONFIG_HOME", directory.join("helm/config")),
            ("HELM_DATA_HOME", directory.join("helm/data")),
        ]
    }

    /// Creates nodes, and waits until they are ready and, where the controller
    /// manager runs, no longer tainted as new. Returns their names.
    pub async fn create_nodes(&self, nodes: &Nodes) -> Result<Vec<String>> {
        let api: Api<Node> = Api::all(self.client());
        stream::iter(nodes.objects().map(|node| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &node).await }
        }))
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| async { Ok(()) })
        .await
        .map_err(Error::request("creating nodes"))?;

        let names: Vec<String> = nodes.names().collect();
        let begun = Instant::now();
        // At stock rates the controller manager handles about five nodes a second.
        let patience = self.options.start_timeout + Duration::from_millis(500) * names.len() as u32;
        loop {
            let all = api
                .list(&ListParams::default().match_any())
                .await
                .map_err(Error::request("listing nodes"))?;
            let ready: std::collections::BTreeSet<&str> = all
                .iter()
                .filter(|node| is_ready(node))
                .filter_map(|node| node.metadata.name.as_deref())
                .collect();
            let missing = names.iter().filter(|name| !ready.contains(name.as_str())).count();
            if missing == 0 {
                return Ok(names);
            }
            if begun.elapsed() > patience {
                let (wanted, after) = (names.len(), begun.elapsed());
                return Err(Error::NodesNotReady { wanted, missing, after });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Simulates the loss of a node's kubelet, or its return. Without its kubelet,
    /// the node is `NotReady` at once (without the 50 s that the controller manager
    /// takes to notice), and its pods do not change, even when they are deleted.
    pub async fn set_outage(&self, node: &str, away: bool) -> Result<()> {
        let api: Api<Node> = Api::all(self.client());
        let annotation = json!({ "metadata": { "annotations": {
            "daylight.dev/simulated-outage": away.then_some("true"),
        }}});
        api.patch(node, &PatchParams::default(), &Patch::Merge(&annotation))
            .await
            .map_err(Error::request("annotating a node"))?;
        let (status, reason) =
            if away { ("False", "KubeletAway") } else { ("True", "KubeletReady") };
        let now = k8s_openapi::jiff::Timestamp::now();
        let condition = json!({ "status": { "conditions": [{
            "type": "Ready", "status": status, "reason": reason,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }]}});
        api.patch_status(node, &PatchParams::default(), &Patch::Strategic(&condition))
            .await
            .map_err(Error::request("setting a node's readiness"))?;
        Ok(())
    }

    /// Starts a component that does not run, and waits until it is ready.
    pub async fn start_component(&self, component: Component) -> Result<()> {
        let log = self.log(component);
        if self.process_id(component).is_some() {
            return Err(Error::Component { component, state: "is running already" });
        }
        process::empty(&log);
        if component == Component::Kwok {
            self.forget_leases().await?;
        }
        if component == Component::Kubelet {
            self.options.real_node.register(self.client()).await?;
        }
        if component == Component::KubeProxy {
            isolation::find_iptables()?;
        }
        if component == Component::Kueue {
            self.install_kueue().await?;
        }
        let command = self.command(component)?;
        let process = Process::start(component, command, &log)?;
        self.processes().insert(component, process);
        let ready = self.wait_until_ready(component).await;
        if ready.is_err() {
            self.processes().remove(&component);
        }
        ready
    }

    /// Stops a component as an administrator would: it may finish its work.
    pub async fn stop_component(&self, component: Component) -> Result<()> {
        self.take(component)?.stop().await;
        Ok(())
    }

    /// Kills a component, as the kernel does when memory is short.
    pub fn kill_component(&self, component: Component) -> Result<()> {
        drop(self.take(component)?);
        Ok(())
    }

    /// Stops the API server, starts it again on the same port, and waits until
    /// it is ready.
    pub async fn restart_api_server(&self) -> Result<()> {
        self.stop_component(Component::ApiServer).await?;
        self.start_component(Component::ApiServer).await
    }

    /// Ends all components, and removes the files. Dropping the control plane does
    /// the same, but blocks its thread.
    pub async fn stop(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<Component, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, component: Component) -> Result<Process> {
        self.processes()
            .remove(&component)
            .ok_or(Error::Component { component, state: "is not running" })
    }

    fn command(&self, component: Component) -> Result<Command> {
        let mut command = match component {
            Component::Kueue => until_stdin_closes(kueue::build()?),
            _ => self.programs.server(component.program())?,
        };
        if component == Component::Kubelet {
            command = self.options.real_node.command(&command, &self.scratch)?;
        }
        let (files, ports) = (&self.files, &self.ports);
        command.args(launch::arguments(component, &self.options, files, ports, self.directory())?);
        command.current_dir(self.directory());
        Ok(command)
    }

    async fn wait_until_ready(&self, component: Component) -> Result<()> {
        let (begun, started) = (Instant::now(), k8s_openapi::jiff::Timestamp::now());
        let secure = match component {
            Component::ControllerManager => Some((self.ports.controller_manager, "/healthz")),
            Component::Scheduler => Some((self.ports.scheduler, "/readyz")),
            Component::ApiServer => Some((self.ports.api_server, "/readyz")),
            Component::Etcd
            | Component::Kwok
            | Component::Kubelet
            | Component::KubeProxy
            | Component::Kueue => None,
        };
        let client = match secure {
            None => None,
            Some((port, _)) => Some(self.probe_client(port)?),
        };
        loop {
            self.processes()
                .get_mut(&component)
                .ok_or(Error::Component { component, state: "is not running" })?
                .check()?;
            let ready = match (&client, secure) {
                (Some(client), Some((_, path))) => answers_securely(client, path).await,
                _ if component == Component::Etcd => answers(self.ports.etcd, "/health").await,
                _ if component == Component::Kubelet => {
                    self.options.real_node.is_up(self.client(), started).await
                }
                _ if component == Component::Kueue => {
                    self.mount_kueue_certificate().await?;
                    answers(self.ports.kueue_health, "/readyz").await
                }
                _ if component == Component::KubeProxy => {
                    answers(self.ports.kube_proxy, "/healthz").await
                }
                _ => answers(self.ports.kwok, "/healthz").await,
            };
            if ready {
                return Ok(());
            }
            if begun.elapsed() > self.options.start_timeout {
                return Err(self.not_ready(component, begun.elapsed()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn not_ready(&self, component: Component, after: Duration) -> Error {
        Error::NotReady { component, after, log: process::tail(&self.log(component)) }
    }

    /// A client without rights, for a component's health.
    fn probe_client(&self, port: u16) -> Result<Client> {
        let url = format!("https://127.0.0.1:{port}");
        let mut config = Config::new(url.parse().unwrap_or_default());
        config.root_cert = Some(vec![self.files.authority_der.clone()]);
        config.connect_timeout = Some(Duration::from_secs(2));
        config.read_timeout = Some(Duration::from_secs(2));
        Client::try_from(config).map_err(Error::request("creating a client"))
    }

    /// Waits for the service account that the controller manager creates. No pod can be
    /// created before.
    async fn wait_for_service_account(&self) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), "default");
        let begun = Instant::now();
        while accounts.get_metadata("default").await.is_err() {
            if begun.elapsed() > self.options.start_timeout {
                return Err(self.not_ready(Component::ControllerManager, begun.elapsed()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Deletes the leases by which kwok holds its nodes: it would wait for those of an
    /// earlier kwok to expire.
    async fn forget_leases(&self) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client(), "kube-node-lease");
        match leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await {
            Err(error) if !is_not_found(&error) => {
                Err(Error::request("removing node leases")(error))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane")
            .field("url", &self.url())
            .field("directory", &self.directory())
            .field("processes", &*self.processes())
            .finish_non_exhaustive()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // All at once, then wait for each.
        let mut processes = std::mem::take(&mut *self.processes());
        for process in processes.values_mut() {
            process.kill();
        }
    }
}

async fn config(kubeconfig: &Path) -> Result<Config> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    Client::try_from(config(kubeconfig).await?).map_err(Error::request("creating a client"))
}

async fn answers_securely(client: &Client, path: &str) -> bool {
    let Ok(request) = http::Request::get(path).body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}

/// Returns whether a GET to a loopback port succeeds.
async fn answers(port: u16, path: &str) -> bool {
    let get = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(Duration::from_secs(2), get).await {
        Ok(Ok(answer)) => answer.get(9..12) == Some(b"200"),
        _ => false,
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

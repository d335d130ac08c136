//! The connection to the API server.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use daylight_cluster::names::parts;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};

use super::error::{CommandError, ErrorCode};
use crate::user_agent::{Component, identify};

/// Flags that choose the cluster and the user.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// Kubeconfig file, instead of KUBECONFIG, ~/.kube/config or the service account
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace of registrations, miners, AI jobs and pods that are named without one; `status`
    /// shows only this one. Default: the context's
    #[arg(short = 'n', long = "namespace", global = true, value_name = "NAMESPACE")]
    pub(super) work_namespace: Option<String>,
    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    impersonate: Option<String>,
    /// Group to impersonate, with --as; may be repeated
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "impersonate")]
    impersonate_groups: Vec<String>,
    /// UID to impersonate, with --as
    #[arg(long = "as-uid", global = true, value_name = "UID", requires = "impersonate")]
    impersonate_uid: Option<String>,
    /// Namespace in which Daylight is installed
    #[arg(
        long = "daylight-namespace",
        global = true,
        env = "DAYLIGHT_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "daylight-system"
    )]
    pub(super) namespace: String,
}

impl Connection {
    /// Returns the client configuration: server, credentials and user.
    pub(super) async fn config(&self) -> Result<Config, CommandError> {
        let mut config = self.configured().await.map_err(|error| {
            CommandError::new("No cluster is configured")
                .because(error)
                .code(ErrorCode::NotConfigured)
                .remedy("Check KUBECONFIG, --kubeconfig and --context")
        })?;
        identify(&mut config, Component::Cli);
        if self.impersonate.is_some() {
            // As in kubectl, a user named here replaces all that the kubeconfig impersonates.
            let auth = &mut config.auth_info;
            auth.impersonate.clone_from(&self.impersonate);
            auth.impersonate_uid.clone_from(&self.impersonate_uid);
            auth.impersonate_groups =
                (!self.impersonate_groups.is_empty()).then(|| self.impersonate_groups.clone());
        }
        if let Some(namespace) = &self.work_namespace {
            config.default_namespace.clone_from(namespace);
        }
        Ok(config)
    }

    async fn configured(&self) -> Result<Config, Box<dyn Error + Send + Sync>> {
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        Ok(match &self.kubeconfig {
            Some(path) => {
                Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        })
    }

    /// Returns a client for a command. Its default namespace is that of --namespace, or the context's.
    pub(super) async fn client(&self) -> Result<Client, CommandError> {
        Ok(Client::try_from(self.config().await?)?)
    }
}

/// Returns the name of the requesting user, as the API server knows it.
pub(super) async fn user(client: &Client) -> Result<String, CommandError> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username)
        .ok_or_else(|| CommandError::new("The API server does not return the name of your user"))
}

/// Returns the namespace and the name in `key`, which is `NAMESPACE/NAME`, or a `NAME` in the client's
/// default namespace.
fn qualified<'a>(client: &'a Client, key: &'a str) -> (&'a str, &'a str) {
    match parts(key) {
        ("", name) => (client.default_namespace(), name),
        parts => parts,
    }
}

/// Returns `key` with its namespace; see [`qualified`].
pub(super) fn full_key(client: &Client, key: &str) -> String {
    let (namespace, name) = qualified(client, key);
    format!("{namespace}/{name}")
}

/// Returns the API of the kind in the namespace of `key`, and the name in it; see [`qualified`].
pub(super) fn namespaced<'a, K>(client: &'a Client, key: &'a str) -> (Api<K>, &'a str)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let (namespace, name) = qualified(client, key);
    (Api::namespaced(client.clone(), namespace), name)
}

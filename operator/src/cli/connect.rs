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

use super::error::CommandError;
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
    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    impersonate: Option<String>,
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
                .remedy("Check KUBECONFIG, --kubeconfig and --context")
        })?;
        identify(&mut config, Component::Cli);
        if self.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&self.impersonate);
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

    /// Returns a client for a command.
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

/// Returns the API of the kind in the namespace of `key`, and the name in `key`, which is
/// `NAMESPACE/NAME`.
pub(super) fn namespaced<'a, K>(
    client: &Client,
    key: &'a str,
) -> Result<(Api<K>, &'a str), CommandError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let (namespace, name) = parts(key);
    if namespace.is_empty() {
        let error = CommandError::new(format!("\"{key}\" has no namespace"));
        return Err(error.remedy(format!("Write NAMESPACE/NAME, such as team-a/{key}")));
    }
    Ok((Api::namespaced(client.clone(), namespace), name))
}

//! The connection to the API server.

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::Failed;

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
    pub(super) async fn config(&self) -> Result<Config, Failed> {
        let failed = |error: &dyn std::error::Error| {
            Failed::new(format!(
                "No cluster is configured ({}); set KUBECONFIG or give --kubeconfig.",
                super::output::chain(error)
            ))
        };
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|e| failed(&e))?
            }
            None if self.context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|error| failed(&error))?
            }
            None => Config::infer().await.map_err(|error| failed(&error))?,
        };
        if self.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&self.impersonate);
        }
        Ok(config)
    }

    /// Returns a client for a command.
    pub(super) async fn client(&self) -> Result<Client, Failed> {
        Ok(Client::try_from(self.config().await?)?)
    }
}

/// Returns the name of the requesting user, as the API server knows it.
pub(super) async fn user(client: &Client) -> Result<String, Failed> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username)
        .ok_or_else(|| Failed::new("The API server does not say who you are."))
}

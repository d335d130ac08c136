//! Flags and the shutdown signal of the commands that serve.

use std::io;
use std::net::SocketAddr;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::error::CommandError;
use daylight_cluster::well_known;

/// Flags that set which approvals count.
#[derive(Debug, Args)]
pub(super) struct Authority {
    /// ConfigMap in Daylight's namespace with the authority's public keys
    #[arg(
        long, env = "DAYLIGHT_AUTHORITY_KEYS", value_name = "NAME",
        default_value = well_known::AUTHORITY_KEYS
    )]
    pub(super) authority_keys: String,
    /// Count only approvals with the authority's signature
    #[arg(long, env = "DAYLIGHT_REQUIRE_SIGNATURE")]
    pub(super) require_signature: bool,
}

/// The address to serve at; `None` for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if text == "none" {
        return Ok(Listen(None));
    }
    let address = text.parse().map_err(|_| {
        "write an address such as [::]:8080 or 127.0.0.1:8080, or `none`".to_owned()
    })?;
    Ok(Listen(Some(address)))
}

/// Returns a future that waits for SIGTERM or SIGINT.
pub(super) fn shutdown() -> Result<impl Future<Output = ()>, CommandError> {
    let failed = |error: io::Error| CommandError::new("Cannot handle signals").because(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

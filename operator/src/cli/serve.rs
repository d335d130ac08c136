//! What the commands that serve have in common: flags, and how they are asked to end.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use daylight_crds::GoDuration;
use tokio::signal::unix::{SignalKind, signal};

use super::Failed;
use daylight_cluster::well_known;

/// What counts as approved.
#[derive(Debug, Args)]
pub(super) struct Authority {
    /// The `ConfigMap` in Daylight's namespace that holds the authority's public keys
    #[arg(
        long, env = "DAYLIGHT_AUTHORITY_KEYS", value_name = "NAME",
        default_value = well_known::AUTHORITY_KEYS
    )]
    pub(super) authority_keys: String,
    /// Let no approval count without the authority's signature
    #[arg(long, env = "DAYLIGHT_REQUIRE_SIGNATURE")]
    pub(super) require_signature: bool,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<GoDuration, _> = text.parse();
    parsed.map(|duration| duration.as_duration()).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if text == "none" {
        return Ok(Listen(None));
    }
    let address = text.parse().map_err(|_| {
        format!("{text:?} is no address such as 0.0.0.0:8080 or [::]:8080, nor `none`")
    })?;
    Ok(Listen(Some(address)))
}

/// Waits for SIGTERM or SIGINT.
pub(super) fn shutdown() -> Result<impl Future<Output = ()>, Failed> {
    let failed = |error: std::io::Error| Failed::new(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

//! `daylight release`: removes the auditor's finalizer from pods that an uninstall left behind.

use clap::Args;
use daylight_crds::labels::METERED_FINALIZER;
use http::Request;
use http::header::CONTENT_TYPE;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PartialObjectMeta};
use kube::{Client, ResourceExt as _};
use serde::Serialize;

use super::connect::Connection;
use super::error::CommandError;
use super::output::Output;
use crate::api_requests::{self, ApiRequest};

/// Pods in a page of a list.
const PAGE: u32 = 500;

#[derive(Debug, Args)]
pub(super) struct Release {
    #[command(flatten)]
    pub(super) output: Output,
}

/// The pods that were released.
#[derive(Debug, Default, Serialize)]
struct Released {
    /// As `NAMESPACE/NAME`.
    released: Vec<String>,
}

/// Removes the auditor's finalizer from every pod. While Daylight is installed, its policy refuses that
/// to every user, so nothing that is still to be booked is lost.
pub(super) async fn release(connection: &Connection, flags: &Release) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let pods: Api<Pod> = Api::all(client.clone());
    let mut released = Released::default();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = pods.list_metadata(&page).await?;
        for pod in &list.items {
            let held = pod.finalizers().iter().any(|one| one == METERED_FINALIZER);
            if held && let Some(key) = release_pod(&client, pod).await? {
                released.released.push(key);
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    flags.output.print(&released, text)
}

fn text(Released { released }: &Released) -> String {
    let pods = match released.len() {
        0 => return format!("No pod has the finalizer {METERED_FINALIZER}.\n"),
        1 => "1 pod",
        count => &format!("{count} pods"),
    };
    format!(
        "Removed the finalizer {METERED_FINALIZER} from {pods}. Miners that still run continue; end \
         them with `kubectl delete pods -A -l daylight.dev/miner`.\n"
    )
}

/// Removes the finalizer from one pod and returns its key; `None` if the pod is gone or has changed.
async fn release_pod(
    client: &Client,
    pod: &PartialObjectMeta<Pod>,
) -> Result<Option<String>, CommandError> {
    let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let uid = pod.uid().unwrap_or_default();
    let ApiRequest { method, path, content_type, body, .. } =
        api_requests::release_pod(&key, &uid, "daylight/release");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content_type)
        .body(body.to_vec())
        .map_err(kube::Error::HttpError)?;
    match client.request_text(request).await {
        Ok(_) => Ok(Some(key)),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pods_are_counted_and_named_in_json() {
        let released = Released { released: vec!["team-a/one".into()] };
        assert!(
            text(&released).starts_with("Removed the finalizer daylight.dev/metered from 1 pod")
        );
        let json = serde_json::to_string(&released).unwrap();
        assert_eq!(json, r#"{"released":["team-a/one"]}"#);
        assert_eq!(text(&Released::default()), "No pod has the finalizer daylight.dev/metered.\n");
    }
}

//! `daylight release`: after an uninstallation, lets go the pods that wait for an auditor which does
//! not come any more.

use clap::Args;
use daylight_crds::labels::METERED_FINALIZER;
use http::Request;
use http::header::CONTENT_TYPE;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PartialObjectMeta};
use kube::{Client, ResourceExt as _};
use serde::Serialize;

use super::Failed;
use super::connect::Connection;
use super::output::Output;
use crate::api_requests::{self, ApiRequest};

/// Pods in a page of a list.
const PAGE: u32 = 500;

#[derive(Debug, Args)]
pub(super) struct Release {
    #[command(flatten)]
    output: Output,
}

/// What was done, as it is printed.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// Pods that had the finalizer and have it no more, as `NAMESPACE/NAME`.
    released: Vec<String>,
}

/// Takes the auditor's finalizer off every pod. As long as Daylight is installed, its policy refuses
/// that to everybody else, so nothing that is still to be booked is lost by it.
pub(super) async fn release(connection: &Connection, flags: &Release) -> Result<(), Failed> {
    let client = connection.client().await?;
    let pods: Api<Pod> = Api::all(client.clone());
    let mut done = Done::default();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = pods.list_metadata(&page).await?;
        for pod in &list.items {
            let held = pod.finalizers().iter().any(|one| one == METERED_FINALIZER);
            if held && let Some(key) = let_go(&client, pod).await? {
                done.released.push(key);
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    flags.output.print(&done, |done| match done.released.len() {
        0 => format!("No pod has the finalizer {METERED_FINALIZER}.\n"),
        count => format!(
            "{count} pods have the finalizer {METERED_FINALIZER} no more; what still runs of them \
             runs on: `kubectl delete pods -A -l daylight.dev/miner` ends it.\n"
        ),
    })
}

/// Lets one pod go, and gives its key; `None` where it went or changed meanwhile.
async fn let_go(client: &Client, pod: &PartialObjectMeta<Pod>) -> Result<Option<String>, Failed> {
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
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

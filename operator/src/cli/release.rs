//! `daylight release`: removes the auditor's finalizer from pods that an uninstall left behind.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use daylight_base::duration;
use daylight_crds::labels::{METERED_FINALIZER, MINER};
use http::Request;
use http::header::CONTENT_TYPE;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PartialObjectMeta, Preconditions};
use kube::{Client, ResourceExt as _};
use serde::Serialize;

use super::connect::Connection;
use super::error::CommandError;
use super::output::{Output, key_of};
use crate::api_requests::{self, ApiRequest};

/// Pods in a page of a list.
const PAGE: u32 = 500;

#[derive(Debug, Args)]
pub(super) struct Release {
    /// Also delete the pods of miners that still run
    #[arg(long)]
    end_miners: bool,
    /// Repeat for at most this long while the API server refuses it, such as 2m
    #[arg(long, value_parser = duration::parse)]
    wait: Option<Duration>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The pods that were changed, as `NAMESPACE/NAME`.
#[derive(Debug, Default, Serialize)]
struct Released {
    /// Without the finalizer now.
    released: BTreeSet<String>,
    /// Pods of miners that were deleted. They end within their own grace period.
    ended: BTreeSet<String>,
}

/// Removes the auditor's finalizer from every pod. While Daylight is installed, its policy refuses that
/// to every user, so nothing that is still to be booked is lost.
pub(super) async fn release(connection: &Connection, flags: &Release) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let mut released = Released::default();
    let begun = Instant::now();
    // The API server enforces a policy for some seconds after it was deleted.
    while let Err(error) = release_all(&client, flags, &mut released).await {
        let refused = matches!(&error, kube::Error::Api(status) if status.code == 403);
        if !refused || begun.elapsed() >= flags.wait.unwrap_or_default() {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    flags.output.print(&released, |released| text(released, flags.end_miners))
}

/// Goes through all pods once, up to the first request that fails.
async fn release_all(
    client: &Client,
    flags: &Release,
    released: &mut Released,
) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = pods.list_metadata(&page).await?;
        for pod in &list.items {
            let key = key_of(pod);
            let mines = pod.labels().contains_key(MINER);
            if flags.end_miners && mines && pod.metadata.deletion_timestamp.is_none() {
                end_pod(client, pod).await?;
                released.ended.insert(key.clone());
            }
            let held = pod.finalizers().iter().any(|one| one == METERED_FINALIZER);
            if held && release_pod(client, &key, pod).await? {
                released.released.insert(key);
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn text(Released { released, ended }: &Released, end_miners: bool) -> String {
    let pods = |count: usize| match count {
        1 => "1 pod".to_owned(),
        count => format!("{count} pods"),
    };
    let finalizers = match released.len() {
        0 => format!("No pod has the finalizer {METERED_FINALIZER}."),
        count => format!("Removed the finalizer {METERED_FINALIZER} from {}.", pods(count)),
    };
    let miners = if end_miners && !ended.is_empty() {
        format!(" Deleted {} of miners.", pods(ended.len()))
    } else if !end_miners && !released.is_empty() {
        " Miners that still run continue; end them with `kubectl delete pods -A -l \
         daylight.dev/miner`."
            .to_owned()
    } else {
        String::new()
    };
    format!("{finalizers}{miners}\n")
}

/// Deletes a pod, unless it is gone or another one has its name.
async fn end_pod(client: &Client, pod: &PartialObjectMeta<Pod>) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    match pods.delete(&pod.name_any(), &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        result => result.map(drop),
    }
}

/// Removes the finalizer from one pod; `false` if the pod is gone or has changed.
async fn release_pod(
    client: &Client,
    key: &str,
    pod: &PartialObjectMeta<Pod>,
) -> Result<bool, kube::Error> {
    let uid = pod.uid().unwrap_or_default();
    let ApiRequest { method, path, content_type, body, .. } =
        api_requests::release_pod(key, &uid, "daylight/release");
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content_type)
        .body(body.to_vec())
        .map_err(kube::Error::HttpError)?;
    match client.request_text(request).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pods_are_counted_and_named_in_json() {
        let one = BTreeSet::from(["team-a/one".to_owned()]);
        let released = Released { released: one.clone(), ended: BTreeSet::new() };
        let said = text(&released, false);
        assert!(said.starts_with("Removed the finalizer daylight.dev/metered from 1 pod. Miners"));
        let json = serde_json::to_string(&released).unwrap();
        assert_eq!(json, r#"{"released":["team-a/one"],"ended":[]}"#);
        assert!(text(&released, true).ends_with("from 1 pod.\n"));
        let said = text(&Released { released: BTreeSet::new(), ended: one }, true);
        assert!(said.ends_with("Deleted 1 pod of miners.\n"), "{said}");
        assert_eq!(
            text(&Released::default(), false),
            "No pod has the finalizer daylight.dev/metered.\n"
        );
    }
}

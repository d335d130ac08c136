//! Writes of the auditor in the cluster: it removes its own finalizer from pods, deletes
//! `LeaseRecord`s that are in the journal, and sets its own fields of statuses.

use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use kube::Client;
use tokio::task::JoinSet;

use crate::api_requests::ApiRequest;
use crate::failure::chain;

/// Field manager of the auditor's writes.
pub(super) const MANAGER: &str = "daylight/auditor";

/// Releases at once. The API server shares its seats among all clients, and a large site may release
/// thousands of pods at once.
const AT_ONCE: usize = 32;
/// Longest wait for an answer. A request without one must not take the place of another for good.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends requests, each in a task of its own.
///
/// None is repeated here: what a request was to change shows in the watches, and is written again
/// until it does.
pub(super) struct ClusterWrites {
    /// `None` if nothing may be written.
    client: Option<Client>,
    /// Apart from the statuses, so that slow writes of these hold no pod.
    releases: JoinSet<()>,
    statuses: JoinSet<()>,
}

impl ClusterWrites {
    /// Without a client, nothing is written: the cluster is only read.
    pub(super) fn new(client: Option<Client>) -> Self {
        Self { client, releases: JoinSet::new(), statuses: JoinSet::new() }
    }

    /// Starts to release pods and records: at most as many as there is [`Self::room`] for.
    pub(super) fn release(&mut self, requests: Vec<ApiRequest>) {
        let Some(client) = &self.client else { return };
        for request in requests {
            self.releases.spawn(send(client.clone(), request));
        }
    }

    /// Starts to write statuses.
    pub(super) fn set_statuses(&mut self, requests: Vec<ApiRequest>) {
        let Some(client) = &self.client else { return };
        for request in requests {
            self.statuses.spawn(send(client.clone(), request));
        }
    }

    /// Number of releases that may be started now.
    pub(super) fn room(&self) -> usize {
        match self.client {
            Some(_) => AT_ONCE.saturating_sub(self.releases.len()),
            None => 0,
        }
    }

    /// Waits until a request ends; never returns while none is under way. Cancel-safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            Some(_) = self.releases.join_next() => {}
            Some(_) = self.statuses.join_next() => {}
            else => std::future::pending().await,
        }
    }
}

async fn send(client: Client, request: ApiRequest) {
    let ApiRequest { what, method, path, content_type, body } = request;
    let request = Request::builder()
        .method(method)
        .uri(&path)
        .header(CONTENT_TYPE, content_type)
        .body(body.to_vec())
        .map_err(kube::Error::HttpError);
    let answer = match request {
        Ok(request) => tokio::time::timeout(TIMEOUT, client.request_text(request)).await,
        Err(error) => Ok(Err(error)),
    };
    let Ok(answer) = answer else {
        tracing::warn!(what, path, "A write has no answer within 30 s; it will be repeated.");
        return;
    };
    match answer {
        // The object is gone, or is another one of the same name: there is nothing left to write.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => {
            tracing::warn!(
                what,
                path,
                error = chain(&error),
                "A write failed; it will be retried."
            );
        }
        Ok(_) => {}
    }
}

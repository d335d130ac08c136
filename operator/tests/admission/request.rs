//! Requests to the API server as a user, and what it answered and noted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// A request that changes something.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) method: Method,
    /// The path, without the host.
    pub(crate) path: String,
    pub(crate) body: Value,
    /// The body's media type.
    format: &'static str,
}

const JSON: &str = "application/json";

impl Change {
    /// Creates the object in the collection at `path`.
    pub(crate) fn create(path: &str, body: Value) -> Self {
        Self { method: Method::POST, path: path.into(), body, format: JSON }
    }

    /// Merges `body` into the object at `path`.
    pub(crate) fn patch(path: &str, body: Value) -> Self {
        let format = "application/merge-patch+json";
        Self { method: Method::PATCH, path: path.into(), body, format }
    }

    /// Merges `body` into the object at `path`, and lists in it by their keys.
    pub(crate) fn strategic(path: &str, body: Value) -> Self {
        let format = "application/strategic-merge-patch+json";
        Self { format, ..Self::patch(path, body) }
    }

    /// Deletes the object at `path`.
    pub(crate) fn delete(path: &str) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: Value::Null, format: JSON }
    }
}

/// What the API server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// The object, or the `Status` that says why not.
    pub(crate) body: Value,
    /// Under which the API server noted the request.
    pub(crate) audit_id: String,
    /// What it warned of.
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn is_admitted(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The mode in which it is answered so, if something was wrong with the request.
    pub(crate) fn mode(&self) -> &'static str {
        match self.is_admitted() {
            false => "Enforce",
            true if self.warnings.iter().any(|text| text.contains("daylight")) => "Warn",
            true => "Audit",
        }
    }

    /// Why not, in the API server's words.
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// Sends a change that is checked like any other, and then not stored.
pub(crate) async fn try_out(client: &Client, change: &Change) -> Answer {
    send(client, change, "?dryRun=All").await
}

/// Makes a change.
pub(crate) async fn make(client: &Client, change: &Change) -> Answer {
    send(client, change, "").await
}

async fn send(client: &Client, change: &Change, query: &str) -> Answer {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let audit_id = format!("attempt-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let body = match &change.body {
        Value::Null => Vec::new(),
        body => serde_json::to_vec(body).unwrap(),
    };
    let request = http::Request::builder()
        .method(change.method.clone())
        .uri(format!("{}{query}", change.path))
        .header("content-type", change.format)
        .header("audit-id", &audit_id)
        .body(Body::from(body))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|text| text.to_str().unwrap().to_owned()).collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Answer { code, body, audit_id, warnings }
}

/// The API server's audit log.
#[derive(Debug)]
pub(crate) struct AuditLog {
    pub(crate) path: PathBuf,
}

impl AuditLog {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { path: directory.join("audit.log") }
    }

    /// All entries so far.
    pub(crate) fn entries(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the entries of these requests.
    pub(crate) async fn of(&self, audit_ids: &[&str]) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let entries = self.entries();
            let find = |id: &&str| entries.iter().find(|entry| entry["auditID"] == **id).cloned();
            let found: Vec<Value> = audit_ids.iter().filter_map(find).collect();
            if found.len() == audit_ids.len() {
                return found;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the audit log has {} of {} entries",
                found.len(),
                audit_ids.len()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

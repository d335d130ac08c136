//! An API server for one AIJob: it carries out the requests of the executor, in order, and may end
//! the process that sends them at any request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::view::tests::test_cluster::{ChangeKind, patched};

/// The objects by path, and what happened to them.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) by_path: BTreeMap<String, Value>,
    /// The parts of statuses that field managers applied.
    applied: BTreeMap<(String, String), Value>,
    version: u64,
    /// Changes that no watch has reported yet.
    pub(super) events: Vec<(Value, ChangeKind)>,
    /// Requests that changed something: method, path and field manager.
    pub(super) writes: Vec<String>,
    /// Ends of the paths of requests that are refused.
    pub(super) refused: Vec<&'static str>,
    /// Writes after which the process that sends them ends.
    pub(super) dies_after: Option<usize>,
    pub(super) dead: bool,
}

#[derive(Clone, Default)]
pub(super) struct Api {
    objects: Arc<Mutex<Objects>>,
    died: Arc<Notify>,
}

impl Api {
    /// Reads or changes the objects directly, as other clients do.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Objects) -> T) -> T {
        f(&mut self.objects.lock().unwrap())
    }

    /// Waits for the end of the process.
    pub(super) async fn died(&self) {
        let died = self.died.notified();
        // A notification is lost if an answer arrives at the same time.
        if !self.with(|objects| objects.dead) {
            died.await;
        }
    }

    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let router = Router::new().fallback(move |method: Method, uri: Uri, body: Bytes| {
            let api = api.clone();
            async move { api.answer(&method, &uri, &body).await }
        });
        Client::new(router, "default")
    }

    async fn answer(&self, method: &Method, uri: &Uri, body: &[u8]) -> Response {
        let body = serde_json::from_slice(body).unwrap_or_default();
        let dies = self.with(|objects| {
            let dead = objects.dies_after.is_some_and(|last| objects.writes.len() >= last);
            (!dead || *method == Method::GET).then(|| {
                let answer = objects.answer(method, uri, &body);
                let dies = objects.dies_after.is_some_and(|last| objects.writes.len() >= last);
                (answer, dies)
            })
        });
        match dies {
            Some((Ok(object), false)) => axum::Json(object).into_response(),
            Some((Err(code), false)) => {
                let code = StatusCode::from_u16(code).unwrap();
                (code, axum::Json(json!({"kind": "Status", "message": "refused"}))).into_response()
            }
            // The process ends before it receives an answer.
            None | Some((_, true)) => {
                self.with(|objects| objects.dead = true);
                self.died.notify_waiters();
                std::future::pending().await
            }
        }
    }
}

/// The value of a parameter of a query.
fn parameter<'a>(uri: &'a Uri, name: &str) -> &'a str {
    let query = uri.query().unwrap_or_default();
    let value = query.split('&').find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default()
}

impl Objects {
    /// Stores an object, or deletes it, and has the watches report it.
    pub(super) fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.by_path.insert(path.to_owned(), object.clone());
        self.events.push((object.clone(), ChangeKind::Applied));
        object
    }

    pub(super) fn delete(&mut self, path: &str) {
        if let Some(mut object) = self.by_path.remove(path) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.events.push((object, ChangeKind::Deleted));
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    fn answer(&mut self, method: &Method, uri: &Uri, body: &Value) -> Result<Value, u16> {
        let (path, manager) = (uri.path(), parameter(uri, "fieldManager"));
        if *method != Method::GET && !path.ends_with("/events") {
            self.writes.push(format!("{method} {path} {manager}"));
        }
        if self.refused.iter().any(|end| path.ends_with(end)) && *method != Method::GET {
            return Err(403);
        }
        match *method {
            Method::GET if path == "/api/v1/services" => {
                let all = self.by_path.values().filter(|one| one["kind"] == "Service");
                Ok(json!({"kind": "ServiceList", "items": all.collect::<Vec<_>>()}))
            }
            Method::GET => self.by_path.get(path).cloned().ok_or(404),
            Method::POST if path.ends_with("/events") => Ok(body.clone()),
            Method::POST if path.ends_with("/eviction") => {
                let pod = path.strip_suffix("/eviction").unwrap();
                let known = self.by_path.get(pod).cloned().ok_or(404_u16)?;
                let ends = json!({"metadata": {
                    "deletionTimestamp": "2026-11-24T07:00:00Z", "deletionGracePeriodSeconds": 3_600,
                }});
                Ok(self.put(pod, patched(&known, &ends)))
            }
            Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap();
                let path = format!("{path}/{name}");
                if self.by_path.contains_key(&path) {
                    return Err(409);
                }
                let mut object = body.clone();
                object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
                if object["kind"].is_null() {
                    object["kind"] = json!(if path.contains("/jobs/") { "Job" } else { "Service" });
                }
                if object["kind"] == "Job" {
                    own_suspend(&mut object, manager);
                }
                // No watch is on Services.
                let stored = self.put(&path, object);
                if stored["kind"] == "Service" {
                    self.events.pop();
                }
                Ok(stored)
            }
            Method::PATCH if path.contains("/daylight.dev/") => {
                self.apply_status(path.strip_suffix("/status").unwrap(), manager, body)
            }
            Method::PATCH => self.patch_job(path, manager, body),
            Method::DELETE => {
                if !self.by_path.contains_key(path) {
                    return Err(404);
                }
                self.delete(path);
                Ok(json!({"kind": "Status"}))
            }
            _ => Err(405),
        }
    }

    /// Applies the part of a status that a field manager owns.
    fn apply_status(&mut self, path: &str, manager: &str, body: &Value) -> Result<Value, u16> {
        let known = self.by_path.get(path).cloned().ok_or(404_u16)?;
        self.applied.insert((path.into(), manager.into()), body["status"].clone());
        let mut status = json!({});
        let mut conditions = Vec::new();
        for ((_, _), part) in self.applied.iter().filter(|((of, _), _)| of == path) {
            let mut part = part.clone();
            if let Some(list) = part["conditions"].take().as_array() {
                conditions.extend(list.clone());
            }
            status = patched(&status, &part);
        }
        status["conditions"] = json!(conditions);
        let mut object = known.clone();
        object["status"] = status;
        if object == known { Ok(known) } else { Ok(self.put(path, object)) }
    }

    /// Merges a patch into a Job, with the API server's rule that only a suspended Job's scheduling
    /// directives may change.
    fn patch_job(&mut self, path: &str, manager: &str, body: &Value) -> Result<Value, u16> {
        if path.ends_with("/status") {
            return Err(422);
        }
        let known = self.by_path.get(path).cloned().ok_or(404_u16)?;
        let mut object = patched(&known, body);
        if object["metadata"]["uid"] != known["metadata"]["uid"] {
            return Err(409);
        }
        let runs = known["spec"]["suspend"] == false;
        if runs && object["spec"]["template"] != known["spec"]["template"] {
            return Err(422);
        }
        if object["spec"]["suspend"] != known["spec"]["suspend"] {
            own_suspend(&mut object, manager);
        }
        if object == known { Ok(known) } else { Ok(self.put(path, object)) }
    }
}

/// Makes a field manager the owner of a Job's `spec.suspend`.
pub(super) fn own_suspend(job: &mut Value, manager: &str) {
    job["metadata"]["managedFields"] = json!([
        {"manager": "other", "fieldsV1": {"f:status": {"f:active": {}}}},
        {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:suspend": {}}}},
    ]);
}

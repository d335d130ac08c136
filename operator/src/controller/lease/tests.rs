//! Against an API server of a few lines that knows one Lease and checks resourceVersions.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;

#[derive(Default)]
struct Server {
    lease: Mutex<Option<Lease>>,
    version: Mutex<u64>,
    /// Time that each write takes from now on.
    delay: Mutex<Duration>,
}

fn refused(code: u16, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": reason,
    });
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

impl Server {
    fn store(&self, mut lease: Lease) -> Response {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        lease.metadata.resource_version = Some(version.to_string());
        *self.lease.lock().unwrap() = Some(lease.clone());
        Json(lease).into_response()
    }

    fn spec(&self) -> LeaseSpec {
        self.lease.lock().unwrap().clone().and_then(|lease| lease.spec).unwrap_or_default()
    }
}

async fn read(State(server): State<Arc<Server>>) -> Response {
    match &*server.lease.lock().unwrap() {
        Some(lease) => Json(lease.clone()).into_response(),
        None => refused(404, "NotFound"),
    }
}

async fn create(State(server): State<Arc<Server>>, Json(lease): Json<Lease>) -> Response {
    if server.lease.lock().unwrap().is_some() {
        return refused(409, "AlreadyExists");
    }
    server.store(lease)
}

async fn replace(State(server): State<Arc<Server>>, Json(lease): Json<Lease>) -> Response {
    let delay = *server.delay.lock().unwrap();
    sleep(delay).await;
    let stored = server.lease.lock().unwrap().clone();
    match stored {
        None => refused(404, "NotFound"),
        Some(stored) if stored.metadata.resource_version != lease.metadata.resource_version => {
            refused(409, "Conflict")
        }
        Some(_) => server.store(lease),
    }
}

fn client(server: &Arc<Server>) -> Client {
    let path = "/apis/coordination.k8s.io/v1/namespaces/daylight-system/leases";
    let router = Router::new()
        .route(path, axum::routing::post(create))
        .route(&format!("{path}/{{name}}"), get(read).put(replace))
        .with_state(server.clone());
    Client::new(router, "default")
}

fn config(identity: &str) -> LeaseConfig {
    LeaseConfig {
        namespace: "daylight-system".into(),
        name: "daylight-controller".into(),
        identity: identity.into(),
        duration: Duration::from_secs(1),
        renew_every: Duration::from_millis(200),
        retry_every: Duration::from_millis(50),
        request_timeout: Duration::from_millis(300),
    }
}

fn replica(server: &Arc<Server>, identity: &str) -> (Leadership, JoinHandle<()>) {
    let (leadership, elector) = elect(client(server), config(identity));
    (leadership, tokio::spawn(elector))
}

async fn leads(leadership: &mut Leadership) -> Tenure {
    let wait = leadership.tenure.wait_for(Option::is_some);
    timeout(Duration::from_secs(5), wait).await.unwrap().unwrap().unwrap()
}

const NOW: Duration = Duration::ZERO;

#[tokio::test]
async fn one_of_two_replicas_leads() {
    let server = Arc::new(Server::default());
    let (mut first, _a) = replica(&server, "first");
    leads(&mut first).await;
    let (second, _b) = replica(&server, "second");
    sleep(Duration::from_millis(1500)).await;
    assert!(first.validity.is_current_for(Duration::from_millis(300)));
    assert!(!second.validity.is_current_for(NOW));
    assert_eq!(server.spec().holder_identity.as_deref(), Some("first"));
}

#[tokio::test]
async fn a_vacated_lease_is_taken_at_once_and_written_under_at_once() {
    let server = Arc::new(Server::default());
    let (mut first, ended) = replica(&server, "first");
    leads(&mut first).await;
    let (mut second, _b) = replica(&server, "second");
    sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    first.vacate.send(Vacate::Settled).await.unwrap();
    let tenure = leads(&mut second).await;
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    assert!(tenure.writes_from <= Instant::now());
    assert_eq!(tenure.transitions, 1);
    assert!(second.validity.is_current_for(NOW));
    assert!(!first.validity.is_current_for(NOW));
    ended.await.unwrap();
}

#[tokio::test]
async fn after_a_crash_the_next_leader_waits_for_the_lease_and_the_requests() {
    let server = Arc::new(Server::default());
    let (mut first, crash) = replica(&server, "first");
    leads(&mut first).await;
    let (mut second, _b) = replica(&server, "second");
    sleep(Duration::from_millis(300)).await;
    crash.abort();
    let crashed = Instant::now();
    let tenure = leads(&mut second).await;
    let taken = crashed.elapsed();
    assert!(taken > Duration::from_millis(700) && taken < Duration::from_millis(1300), "{taken:?}");
    assert!(!second.validity.is_current_for(NOW), "the old leader's requests may be under way");
    tokio::time::sleep_until(tenure.writes_from.into()).await;
    assert!(second.validity.is_current_for(NOW));
    assert!(!first.validity.is_current_for(NOW), "the first must have stopped before");
}

#[tokio::test]
async fn vacating_with_requests_under_way_makes_the_next_one_wait_for_them() {
    let server = Arc::new(Server::default());
    let (mut first, _a) = replica(&server, "first");
    leads(&mut first).await;
    first.vacate.send(Vacate::Unsettled).await.unwrap();
    let (mut second, _b) = replica(&server, "second");
    let tenure = leads(&mut second).await;
    assert!(tenure.writes_from > Instant::now());
}

#[tokio::test]
async fn a_write_by_another_client_costs_a_second_read_and_not_the_lead() {
    let server = Arc::new(Server::default());
    let (mut first, _a) = replica(&server, "first");
    leads(&mut first).await;
    let lease = server.lease.lock().unwrap().clone().unwrap();
    server.store(lease);
    sleep(Duration::from_millis(1200)).await;
    assert!(first.validity.is_current_for(NOW));
    assert_eq!(leads(&mut first).await.transitions, 0);
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_before_another_may_start() {
    let server = Arc::new(Server::default());
    let (mut first, _a) = replica(&server, "first");
    leads(&mut first).await;
    *server.delay.lock().unwrap() = Duration::from_hours(1);
    let (second, _b) = replica(&server, "second");
    let lapse = first.tenure.wait_for(Option::is_none);
    timeout(Duration::from_secs(3), lapse).await.unwrap().unwrap();
    assert!(!first.validity.is_current_for(NOW));
    assert!(!second.validity.is_current_for(NOW));
}

#[tokio::test]
async fn a_holder_that_finds_another_name_in_the_lease_stops_at_once() {
    let server = Arc::new(Server::default());
    let (mut first, _a) = replica(&server, "first");
    leads(&mut first).await;
    let mut lease = server.lease.lock().unwrap().clone().unwrap();
    lease.spec.get_or_insert_default().holder_identity = Some("thief".into());
    server.store(lease);
    let lapse = first.tenure.wait_for(Option::is_none);
    timeout(Duration::from_millis(600), lapse).await.unwrap().unwrap();
    assert!(!first.validity.is_current_for(NOW));
}

#[test]
fn margins_that_cannot_hold_are_refused() {
    let mut tight = config("x");
    tight.request_timeout = Duration::from_millis(400);
    assert_eq!(
        tight.check(),
        Err(LeaseConfigError::Margin {
            duration: Duration::from_secs(1),
            renew_every: Duration::from_millis(200),
            request_timeout: Duration::from_millis(400),
        })
    );
    assert_eq!(config("x").check(), Ok(()));
}

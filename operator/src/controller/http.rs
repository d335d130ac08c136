//! `/metrics`, `/livez` and `/readyz`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;

/// How the controller is, as its main loop last said.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<Beat>>);

#[derive(Debug)]
struct Beat {
    beat: Instant,
    pending: Vec<String>,
}

impl Default for Beat {
    fn default() -> Self {
        Self { beat: Instant::now(), pending: vec!["nothing is listed yet".into()] }
    }
}

/// A main loop that has not turned for this long hangs.
const HANGS_AFTER: Duration = Duration::from_mins(1);

impl Health {
    /// The main loop turns; `pending` says what is not in order, one sentence each.
    pub fn beat(&self, pending: Vec<String>) {
        if let Ok(mut state) = self.0.write() {
            state.beat = Instant::now();
            state.pending = pending;
        }
    }

    fn is_alive(&self) -> bool {
        self.0.read().is_ok_and(|state| state.beat.elapsed() < HANGS_AFTER)
    }

    fn pending(&self) -> Vec<String> {
        self.0.read().map(|state| state.pending.clone()).unwrap_or_default()
    }
}

#[derive(Clone)]
struct Served {
    metrics: Metrics,
    health: Health,
}

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, metrics: Metrics, health: Health) -> io::Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message =
            format!("cannot listen on {address} ({error}); choose another address with --listen");
        io::Error::new(error.kind(), message)
    })?;
    tracing::info!(address = %listener.local_addr()?, "Serving /metrics, /livez and /readyz.");
    axum::serve(listener, router(metrics, health)).await
}

fn router(metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Served { metrics, health })
}

async fn scrape(State(served): State<Served>) -> Response {
    match served.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn livez(State(served): State<Served>) -> Response {
    if served.health.is_alive() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the main loop hangs\n").into_response()
    }
}

async fn readyz(State(served): State<Served>) -> Response {
    let pending = served.health.pending();
    if pending.is_empty() {
        "ok\n".into_response()
    } else {
        let text = format!("{}\n", pending.join("\n"));
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(health: &Health, path: &str) -> (StatusCode, String) {
        let router = router(Metrics::new().unwrap(), health.clone());
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_once_nothing_is_pending() {
        let health = Health::default();
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        health.beat(vec!["GpuPool: CustomResourceDefinition not installed".into()]);
        let (status, text) = ask(&health, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "GpuPool: CustomResourceDefinition not installed\n");
        health.beat(Vec::new());
        assert_eq!(ask(&health, "/readyz").await, (StatusCode::OK, "ok\n".into()));
        assert_eq!(ask(&health, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let (status, text) = ask(&Health::default(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("daylight_leader 0"));
    }
}

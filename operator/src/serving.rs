//! `/metrics`, `/livez` and `/readyz`, and an auditor's ledger.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::net::TcpListener;

use crate::ledger_files;

/// Health of a process, as its main loop last reported it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<Beat>>);

#[derive(Debug)]
struct Beat {
    beat: Instant,
    pending: Vec<String>,
}

impl Default for Beat {
    fn default() -> Self {
        Self {
            beat: Instant::now(),
            pending: vec!["waiting for the first lists from the API server".into()],
        }
    }
}

/// A main loop that has not reported for this time hangs.
const HANGS_AFTER: Duration = Duration::from_mins(1);

impl Health {
    /// Reports that the main loop runs; `pending` are the problems, one sentence each.
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

/// A lock that keeps scrapes from seeing gauges that are only partly set.
#[derive(Clone, Debug, Default)]
pub struct ScrapeLock(Arc<Mutex<()>>);

impl ScrapeLock {
    /// Keeps scrapes and other setters of gauges waiting while the guard is held; `None` while a scrape
    /// is answered, for which the caller should not wait.
    pub fn try_hold(&self) -> Option<MutexGuard<'_, ()>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Keeps scrapes and other setters of gauges waiting while the guard is held.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process serves.
#[derive(Clone)]
pub struct Served {
    pub registry: Registry,
    pub lock: ScrapeLock,
    pub health: Health,
    /// Directory of the ledger; `None` if the process keeps none.
    pub ledger: Option<PathBuf>,
}

/// The HTTP server; it ends only with an error.
pub type Server = Pin<Box<dyn Future<Output = io::Error> + Send>>;

/// Starts the server in its own task; without an address there is none.
pub fn start(address: Option<SocketAddr>, served: Served) -> Server {
    let Some(address) = address else {
        return Box::pin(std::future::pending());
    };
    let task = tokio::spawn(serve(address, served));
    Box::pin(async {
        match task.await {
            Ok(Err(error)) => error,
            _ => io::Error::other("the HTTP server ended unexpectedly"),
        }
    })
}

async fn serve(address: SocketAddr, served: Served) -> io::Result<()> {
    let mut listener = TcpListener::bind(address).await;
    if let Err(error) = &listener
        && let Some(ipv4) = without_ipv6(address, error.kind())
    {
        listener = TcpListener::bind(ipv4).await;
    }
    let listener = listener.map_err(|error| {
        let message =
            format!("cannot listen on {address} ({error}); choose another address with --listen");
        io::Error::new(error.kind(), message)
    })?;
    tracing::info!(address = %listener.local_addr()?, "Serving /metrics, /livez and /readyz.");
    axum::serve(listener, router(served)).await
}

/// Returns the address to try instead where every address of the machine was wanted, and it has no
/// IPv6, which each system reports in its own way.
fn without_ipv6(address: SocketAddr, error: io::ErrorKind) -> Option<SocketAddr> {
    let other_cause = matches!(error, io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    (address.ip() == Ipv6Addr::UNSPECIFIED && !other_cause)
        .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

/// Routes requests to what a process serves.
pub(crate) fn router(served: Served) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/ledger/{*path}", get(ledger))
        .with_state(served)
}

async fn scrape(State(served): State<Served>) -> Response {
    let rendered = {
        let _lock = served.lock.hold();
        render(&served.registry)
    };
    match rendered {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Renders all metrics of a registry in Prometheus' text format.
pub fn render(registry: &Registry) -> prometheus::Result<String> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn livez(State(served): State<Served>) -> Response {
    if served.health.is_alive() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the main loop has not run for a minute\n")
            .into_response()
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

async fn ledger(State(served): State<Served>, Path(path): Path<String>) -> Response {
    let Some(directory) = served.ledger else { return StatusCode::NOT_FOUND.into_response() };
    // Files are read synchronously.
    match tokio::task::spawn_blocking(move || ledger_files::read(&directory, &path)).await {
        Ok(Ok(Some(file))) => {
            let headers =
                [(header::CONTENT_TYPE, file.media_type), (header::CACHE_CONTROL, file.caching)];
            (headers, file.bytes).into_response()
        }
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "Cannot read a file of the ledger that was asked for.");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    fn served(registry: Registry, health: Health) -> Served {
        Served { registry, lock: ScrapeLock::default(), health, ledger: None }
    }

    async fn response_to(health: &Health, path: &str) -> (StatusCode, String) {
        let router = router(served(Registry::new(), health.clone()));
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_once_nothing_is_pending() {
        let health = Health::default();
        assert_eq!(response_to(&health, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        health.beat(vec!["GpuPool: CustomResourceDefinition not installed".into()]);
        let (status, text) = response_to(&health, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "GpuPool: CustomResourceDefinition not installed\n");
        health.beat(Vec::new());
        assert_eq!(response_to(&health, "/readyz").await, (StatusCode::OK, "ok\n".into()));
        assert_eq!(response_to(&health, "/livez").await.0, StatusCode::OK);
    }

    #[test]
    fn a_machine_without_ipv6_serves_ipv4() {
        use io::ErrorKind::{AddrInUse, AddrNotAvailable, Other};
        let fallback = |address: &str, error| {
            without_ipv6(address.parse().unwrap(), error).map(|address| address.to_string())
        };
        for error in [AddrNotAvailable, Other] {
            assert_eq!(fallback("[::]:8080", error).as_deref(), Some("0.0.0.0:8080"));
        }
        assert_eq!(fallback("[::]:8080", AddrInUse), None);
        // An address that is named is the one that is meant.
        assert_eq!(fallback("[::1]:8080", AddrNotAvailable), None);
        assert_eq!(fallback("127.0.0.1:8080", AddrNotAvailable), None);
    }

    #[tokio::test]
    async fn the_default_address_serves_ipv4_and_ipv6() {
        // The machine may have no IPv6; then IPv4 must still be served.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, free));
        let served = served(Registry::new(), Health::default());
        let server = tokio::spawn(serve(address, served));
        let connected = async |address: SocketAddr| {
            // The server may not have begun to listen.
            for _ in 0..100 {
                if tokio::net::TcpStream::connect(address).await.is_ok() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            false
        };
        assert!(connected(SocketAddr::from((Ipv4Addr::LOCALHOST, free))).await);
        if TcpListener::bind("[::1]:0").await.is_ok() {
            assert!(connected(SocketAddr::from((Ipv6Addr::LOCALHOST, free))).await);
        }
        server.abort();
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let registry = Registry::new();
        let gauge = prometheus::IntGauge::new("daylight_leader", "1 if this process leads.");
        registry.register(Box::new(gauge.unwrap())).unwrap();
        let request = http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
        let response = router(served(registry, Health::default())).oneshot(request).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], prometheus::TEXT_FORMAT);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8(body.to_vec()).unwrap().contains("daylight_leader 0"));
    }
}

//! HTTP server of the agent: `/metrics`, `/status`, `/readyz` and `/livez`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use daylight_agent_api::http as api;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::metrics;
use crate::status::Shared;

/// Connections that are served at once; further ones wait.
const AT_ONCE: usize = 64;

/// Connections of one peer, so that a neighbour who opens many does not keep the kubelet waiting.
const OF_ONE_PEER: usize = 8;

/// Longest life of a connection, so that a slow client does not keep a probe waiting.
const LONGEST: Duration = Duration::from_secs(2);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Serves requests on `listener`. `has_figures` is whether the engine's figures are read.
pub(crate) async fn serve(listener: TcpListener, shared: Shared, has_figures: bool) {
    let free = Arc::new(Semaphore::new(AT_ONCE));
    let peers = Peers::default();
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else {
            // Most likely out of file descriptors, some of which will be closed soon.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(seat) = peers.seat(peer.ip()) else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &shared, has_figures);
                async { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            // A client that disconnects early is not an error.
            let _ = timeout(LONGEST, connection).await;
            drop((permit, seat));
        });
    }
}

/// Addresses of the connections that are served, each as often as it has one.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<Vec<IpAddr>>>);

/// A peer's place among the connections, until it is dropped.
struct Seat(Peers, IpAddr);

impl Peers {
    /// Returns a place for one more connection of a peer, unless it has as many as it may.
    fn seat(&self, peer: IpAddr) -> Option<Seat> {
        let mut peers = self.lock();
        let has = peers.iter().filter(|other| **other == peer).count();
        (has < OF_ONE_PEER).then(|| {
            peers.push(peer);
            Seat(self.clone(), peer)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self(peers, peer) = self;
        let mut peers = peers.lock();
        if let Some(at) = peers.iter().position(|other| other == peer) {
            peers.swap_remove(at);
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    shared: &Shared,
    has_figures: bool,
) -> Response<Full<Bytes>> {
    let mut status = shared.get();
    if request.headers().get(api::LEASE_HEADER).is_some_and(|value| value == api::LEASE_RENEW) {
        status.lease_renewed = Some(Instant::now());
    }
    let ready = status.ready(has_figures);
    let (code, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, api::METRICS_PATH) => {
            (StatusCode::OK, TEXT, metrics::render(&status, ready))
        }
        (&Method::GET, api::STATUS_PATH) => match serde_json::to_string(&status.view(ready)) {
            Ok(view) => (StatusCode::OK, JSON, view),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        },
        (&Method::GET, api::READY_PATH) => match ready {
            Ok(()) => (StatusCode::OK, TEXT, "ready\n".into()),
            Err(reason) => {
                let text = format!("{}\n", status.sentence(reason));
                (StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        },
        // Never a matter of the pool: a restart of the container would not bring it back.
        (&Method::GET, api::LIVE_PATH) => (StatusCode::OK, TEXT, "alive\n".into()),
        _ => (StatusCode::NOT_FOUND, TEXT, "/metrics /status /readyz /livez\n".into()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_takes_no_more_than_its_part() {
        let peers = Peers::default();
        let neighbour = IpAddr::from([10, 0, 0, 2]);
        let mut seats: Vec<Seat> = (0..OF_ONE_PEER).map_while(|_| peers.seat(neighbour)).collect();
        assert_eq!(seats.len(), OF_ONE_PEER);
        assert!(peers.seat(neighbour).is_none());
        assert!(peers.seat(IpAddr::from([10, 0, 0, 1])).is_some());
        seats.pop();
        assert!(peers.seat(neighbour).is_some());
    }
}

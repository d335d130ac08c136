//! HTTP server of the agent: `/metrics`, `/status`, `/readyz` and `/livez`.

use std::convert::Infallible;
use std::sync::Arc;
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

/// Longest life of a connection, so that a slow client does not keep a probe waiting.
const LONGEST: Duration = Duration::from_secs(2);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Serves requests on `listener`. `has_figures` is whether the engine's figures are read.
pub(crate) async fn serve(listener: TcpListener, shared: Shared, has_figures: bool) {
    let free = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely out of file descriptors, some of which will be closed soon.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
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
            drop(permit);
        });
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

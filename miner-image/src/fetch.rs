//! A GET request to an engine on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit. Engines answer at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer, in bytes, so that an engine cannot fill the agent's memory.
const LONGEST: usize = 1 << 20;

/// Returns the body of the answer to `GET path`.
///
/// # Errors
///
/// One sentence, if there is no answer in time, or if it is too long or its status is not 200.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Bytes, String> {
    timeout(TIMEOUT, request(address, path))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
        .map_err(|error| format!("http://{address}{path}: {error}"))
}

async fn request(address: SocketAddr, path: &str) -> Result<Bytes, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("the engine answered {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| text(&*error))
    };
    tokio::pin!(exchange);
    // The connection must be polled for the exchange to advance. If it ends first, the exchange has
    // its result already.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

//! One GET on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Engines answer at once or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// No engine tells more than this of itself.
const LONGEST: usize = 1 << 20;

/// The body of the answer to `GET path`.
///
/// # Errors
///
/// One sentence, where there is no answer, none in time, one that is too long, or none with
/// status 200.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Bytes, String> {
    timeout(PATIENCE, ask(address, path))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
        .map_err(|says| format!("http://{address}{path}: {says}"))
}

async fn ask(address: SocketAddr, path: &str) -> Result<Bytes, String> {
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
            return Err(format!("the answer is {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| text(&*error))
    };
    tokio::pin!(exchange);
    // The exchange ends before the connection, or by its end.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

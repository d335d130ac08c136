//! Requests to web servers of others: their time and the size of their answers are bounded.

use std::error::Error;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;

use crate::connection;

/// Time that a server has to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) type WebError = Box<dyn Error + Send + Sync>;

/// Server at an address, to which the paths of requests are relative.
pub(crate) struct WebServer(Client);

impl WebServer {
    /// Prepares connections to an address, which may end with a `/`.
    pub(crate) fn new(url: &str) -> Result<Self, WebError> {
        let config = kube::Config::new(url.trim_end_matches('/').parse()?);
        Ok(Self(connection::client(&config)?))
    }

    /// Requests a file. An answer of more than `most` bytes is an error.
    pub(crate) async fn get(
        &self,
        path: &str,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>), WebError> {
        self.send(Request::get(format!("/{path}")).body(Body::empty())?, most).await
    }

    /// Sends a text. An answer of more than `most` bytes is an error.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: String,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>), WebError> {
        let body = Body::from(body.into_bytes());
        self.send(Request::post(format!("/{path}")).body(body)?, most).await
    }

    async fn send(
        &self,
        request: Request<Body>,
        most: usize,
    ) -> Result<(StatusCode, Vec<u8>), WebError> {
        let answer = async {
            let (head, body) = self.0.send(request).await?.into_parts();
            let body = Limited::new(body, most).collect().await?;
            Ok((head.status, body.to_bytes().to_vec()))
        };
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs()).into()),
        }
    }
}

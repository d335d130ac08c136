//! Requests to web servers, from commands that wait for them.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use tokio::runtime::Handle;

use crate::connection;

/// Most bytes of an answer: a bundle of 256 entries of the greatest length has fewer.
const MOST_BYTES: usize = 17 << 20;

/// Time that a server has to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type WebError = Box<dyn Error + Send + Sync>;

/// Server at an address, to which the paths of requests are relative.
pub(super) struct Server(Client);

impl Server {
    /// Prepares connections to an address.
    pub(super) fn new(url: &str) -> Result<Self, WebError> {
        let config = kube::Config::new(url.parse()?);
        Ok(Self(connection::client(&config)?))
    }

    pub(super) fn get(&self, path: &str) -> Result<(StatusCode, Vec<u8>), WebError> {
        self.send(http::Request::get(format!("/{path}")).body(Body::empty())?)
    }

    pub(super) fn post(&self, path: &str, body: String) -> Result<(StatusCode, Vec<u8>), WebError> {
        self.send(http::Request::post(format!("/{path}")).body(Body::from(body.into_bytes()))?)
    }

    fn send(&self, request: http::Request<Body>) -> Result<(StatusCode, Vec<u8>), WebError> {
        let answer = async {
            let (head, body) = self.0.send(request).await?.into_parts();
            let body = Limited::new(body, MOST_BYTES).collect().await?;
            Ok((head.status, body.to_bytes().to_vec()))
        };
        tokio::task::block_in_place(|| {
            Handle::current().block_on(async { tokio::time::timeout(TIMEOUT, answer).await? })
        })
    }
}

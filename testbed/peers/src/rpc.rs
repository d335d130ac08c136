//! JSON-RPC of a node.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Limit for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// JSON-RPC of a node. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Rpc(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: &'static str,
    url: String,
    authorization: Option<String>,
    client: Client<HttpConnector, Full<Body>>,
}

type Body = std::io::Cursor<Vec<u8>>;

impl Rpc {
    /// Connects to the node at a URL, with a user and a password if it needs them.
    pub(crate) fn new(node: &'static str, url: String, login: Option<(&str, &str)>) -> Self {
        let authorization = login.map(|(user, password)| {
            format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self(Arc::new(Inner { node, url, authorization, client }))
    }

    /// Calls a method, and returns the result.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let Inner { node, url, authorization, client } = &*self.0;
        let unreachable = |why: String| Error::Unreachable { node, method: method.into(), why };
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params});
        let mut request = http::Request::post(url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Full::new(Body::new(body.to_string().into_bytes())))
            .map_err(|error| unreachable(error.to_string()))?;
        let answer = async {
            let response = client.request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| chain(&error))?;
            Ok((status, body.to_bytes()))
        };
        let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("no answer".into()));
        let (status, bytes) = answer.map_err(unreachable)?;
        let Ok(mut answer) = serde_json::from_slice::<Value>(&bytes) else {
            return Err(unreachable(format!("HTTP status {status}")));
        };
        match answer.get("error") {
            None | Some(Value::Null) => Ok(answer["result"].take()),
            Some(error) => Err(Error::Refused {
                node,
                method: method.into(),
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().into(),
            }),
        }
    }

    /// Calls a method, and reads the result.
    pub(crate) async fn read<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T> {
        let result = self.call(method, params).await?;
        serde_json::from_value(result).map_err(|error| self.unreadable(method, error.to_string()))
    }

    pub(crate) fn unreadable(&self, method: &str, why: impl Into<String>) -> Error {
        Error::Unreadable { node: self.0.node, method: method.into(), why: why.into() }
    }
}

/// Returns an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

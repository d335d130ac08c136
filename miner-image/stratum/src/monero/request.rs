//! Requests of a miner.

use serde_json::json;

use crate::malformed::{Field, Fields, Malformed, object, unknown};
use crate::message::Id;

/// A request of a miner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: Id,
    pub call: Call,
}

/// Method of a request, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `login`, whose reply has the first job.
    Login {
        /// The wallet, often followed by a difficulty or a worker's name.
        login: String,
        /// The password, which often is the worker's name.
        pass: String,
        agent: String,
        /// The worker's name, if the pool has a field for it.
        rigid: Option<String>,
        /// The algorithms that the miner supports; empty if it does not name them.
        algorithms: Vec<String>,
    },
    /// `submit`: a share.
    Submit(Submit),
    /// `keepalived`, which keeps the connection open.
    KeepAlive { session: String },
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    pub session: String,
    pub job: String,
    pub nonce: [u8; 4],
    pub result: [u8; 32],
}

impl Request {
    /// The request as a line, without its end.
    pub fn encode(&self) -> String {
        let (method, params) = match &self.call {
            Call::Login { login, pass, agent, rigid, algorithms } => {
                let mut params = json!({"login": login, "pass": pass, "agent": agent});
                if let Some(rigid) = rigid {
                    params["rigid"] = json!(rigid);
                }
                if !algorithms.is_empty() {
                    params["algo"] = json!(algorithms);
                }
                ("login", params)
            }
            Call::Submit(Submit { session, job, nonce, result }) => (
                "submit",
                json!({
                    "id": session,
                    "job_id": job,
                    "nonce": hex::encode(nonce),
                    "result": hex::encode(result),
                }),
            ),
            Call::KeepAlive { session } => ("keepalived", json!({"id": session})),
        };
        json!({"id": self.id.encode(), "jsonrpc": "2.0", "method": method, "params": params})
            .to_string()
    }

    /// Reads a line that a miner sent.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        let message = object(line)?;
        let head = Fields::new("request", Some(&message));
        let (id, method) = (Id::required(head.named("id"))?, head.named("method").text()?);
        let params = message.get("params");
        let call = match method {
            "login" => {
                let fields = Fields::new("login", params);
                Call::Login {
                    login: fields.named("login").string()?,
                    pass: fields.named("pass").maybe(Field::string)?.unwrap_or_default(),
                    agent: fields.named("agent").maybe(Field::string)?.unwrap_or_default(),
                    rigid: fields.named("rigid").maybe(Field::string)?,
                    algorithms: (fields.keyed("algo", "algorithms").maybe(Field::texts)?)
                        .unwrap_or_default(),
                }
            }
            "submit" => {
                let fields = Fields::new("submit", params);
                Call::Submit(Submit {
                    session: fields.keyed("id", "session").string()?,
                    job: fields.keyed("job_id", "job").string()?,
                    nonce: fields.named("nonce").array("4 bytes in hexadecimal digits")?,
                    result: fields.named("result").array("32 bytes in hexadecimal digits")?,
                })
            }
            "keepalived" => Call::KeepAlive {
                session: Fields::new("keepalived", params).keyed("id", "session").string()?,
            },
            other => return Err(unknown(other)),
        };
        Ok(Self { id, call })
    }
}

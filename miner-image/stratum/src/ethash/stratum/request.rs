//! Requests of a miner.

use serde_json::{Value, json};

use crate::ethash::NONCE;
use crate::malformed::{Field, Fields, Malformed, object};
use crate::message::Id;
use crate::v1;

/// A request of a miner.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Id,
    pub call: Call,
}

/// Method of a request, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `mining.subscribe`: a request for jobs.
    Subscribe {
        agent: String,
        /// The protocol and its version, in the dialect that has one.
        version: Option<String>,
    },
    /// `mining.submit`: a share.
    Submit(Submit),
    /// `eth_submitHashrate`, for the pool's statistics.
    SubmitHashrate,
    /// What is the same in Stratum v1.
    V1(v1::Call),
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    pub user: String,
    pub job: String,
    /// Without the pool's bytes in EthereumStratum/1.0.0, whole in Ravencoin's Stratum.
    pub nonce: Vec<u8>,
    /// The header and the mix hash, in Ravencoin's Stratum.
    pub solution: Option<([u8; 32], [u8; 32])>,
}

impl Request {
    /// The request as a line, without its end.
    pub fn encode(&self) -> String {
        let (method, params) = match &self.call {
            Call::Subscribe { agent, version: None } => ("mining.subscribe", json!([agent])),
            Call::Subscribe { agent, version: Some(version) } => {
                ("mining.subscribe", json!([agent, version]))
            }
            Call::Submit(submit) => ("mining.submit", submit.encode()),
            Call::SubmitHashrate => ("eth_submitHashrate", json!([])),
            Call::V1(call) => {
                return v1::Request { id: self.id.clone(), call: call.clone() }.encode();
            }
        };
        json!({"id": self.id.encode(), "method": method, "params": params}).to_string()
    }

    /// Reads a line that a miner sent.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        let message = object(line)?;
        let id = || Id::required(Fields::new("request", Some(&message)).named("id"));
        let params = message.get("params");
        let call = match message.get("method").and_then(Value::as_str) {
            Some("mining.subscribe") => {
                let fields = Fields::new("mining.subscribe", params);
                Call::Subscribe {
                    // Some engines do not name themselves.
                    agent: fields.at(0, "agent").maybe(Field::string)?.unwrap_or_default(),
                    version: fields.at(1, "version").maybe(Field::string)?,
                }
            }
            Some("mining.submit") => {
                Call::Submit(Submit::decode(Fields::new("mining.submit", params))?)
            }
            Some("eth_submitHashrate") => Call::SubmitHashrate,
            _ => {
                let v1::Request { id, call } = v1::Request::of(&message)?;
                return Ok(Self { id, call: Call::V1(call) });
            }
        };
        Ok(Self { id: id()?, call })
    }
}

impl Submit {
    fn encode(&self) -> Value {
        let Self { user, job, nonce, solution } = self;
        let nonce = hex::encode(nonce);
        match solution {
            None => json!([user, job, nonce]),
            // Ravencoin's pools cut off the first two characters of each.
            Some((header, mix)) => json!([
                user,
                job,
                format!("0x{nonce}"),
                format!("0x{}", hex::encode(header)),
                format!("0x{}", hex::encode(mix)),
            ]),
        }
    }

    fn decode(fields: Fields<'_>) -> Result<Self, Malformed> {
        let nonce =
            fields.at(2, "nonce").few_bytes(NONCE, "up to 8 bytes in hexadecimal digits")?;
        let header = fields.at(3, "header").maybe(Field::hash)?;
        let mix = fields.at(4, "mix hash").maybe(Field::hash)?;
        Ok(Self {
            user: fields.at(0, "user").string()?,
            job: fields.at(1, "job").string()?,
            nonce,
            solution: header.zip(mix),
        })
    }
}

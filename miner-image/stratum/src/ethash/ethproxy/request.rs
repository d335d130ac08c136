//! Requests of a miner.

use serde_json::{Value, json};

use crate::ethash::NONCE;
use crate::malformed::{Field, Fields, Malformed, object, unknown};
use crate::message::Id;

/// A request of a miner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: Id,
    /// The worker's name, for pools that have a field for it.
    pub worker: Option<String>,
    pub call: Call,
}

/// Method of a request, with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `eth_submitLogin`.
    Login {
        /// The wallet or the account, often followed by the worker's name.
        user: String,
        password: String,
    },
    /// `eth_getWork`: a request for the newest job.
    GetWork,
    /// `eth_submitWork`: a share.
    Submit(Submit),
    /// `eth_submitHashrate`, for the pool's statistics.
    SubmitHashrate,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    pub nonce: [u8; NONCE],
    /// The header, which identifies the job.
    pub header: [u8; 32],
    pub mix: [u8; 32],
}

impl Request {
    /// The request as a line, without its end.
    pub fn encode(&self) -> String {
        let digits = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
        let (method, params) = match &self.call {
            Call::Login { user, password } => ("eth_submitLogin", json!([user, password])),
            Call::GetWork => ("eth_getWork", json!([])),
            Call::Submit(Submit { nonce, header, mix }) => {
                ("eth_submitWork", json!([digits(nonce), digits(header), digits(mix)]))
            }
            Call::SubmitHashrate => ("eth_submitHashrate", json!([])),
        };
        let id = self.id.encode();
        let mut request = json!({"id": id, "jsonrpc": "2.0", "method": method, "params": params});
        if let Some(worker) = &self.worker {
            request["worker"] = json!(worker);
        }
        request.to_string()
    }

    /// Reads a line that a miner sent.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        let message = object(line)?;
        let head = Fields::new("request", Some(&message));
        let (id, method) = (Id::required(head.named("id"))?, head.named("method").text()?);
        let params = message.get("params");
        let call = match method {
            "eth_submitLogin" => {
                let fields = Fields::new("eth_submitLogin", params);
                Call::Login {
                    user: fields.at(0, "user").string()?,
                    password: fields.at(1, "password").maybe(Field::string)?.unwrap_or_default(),
                }
            }
            "eth_getWork" => Call::GetWork,
            "eth_submitWork" => {
                Call::Submit(Submit::decode(Fields::new("eth_submitWork", params))?)
            }
            "eth_submitHashrate" => Call::SubmitHashrate,
            other => return Err(unknown(other)),
        };
        let worker = head.named("worker").value.and_then(Value::as_str).map(str::to_owned);
        Ok(Self { id, worker, call })
    }
}

impl Submit {
    fn decode(fields: Fields<'_>) -> Result<Self, Malformed> {
        let nonce =
            fields.at(0, "nonce").few_bytes(NONCE, "up to 8 bytes in hexadecimal digits")?;
        // Some engines leave out zeros at the beginning.
        let mut padded = [0; NONCE];
        padded[NONCE - nonce.len()..].copy_from_slice(&nonce);
        Ok(Self {
            nonce: padded,
            header: fields.at(1, "header").hash()?,
            mix: fields.at(2, "mix hash").hash()?,
        })
    }
}

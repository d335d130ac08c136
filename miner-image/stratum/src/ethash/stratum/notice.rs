//! Messages of a pool.

use serde_json::{Value, json};

use crate::ethash::{Job, NONCE};
use crate::malformed::{Field, Fields, Malformed, object};
use crate::{Target, v1};

/// A message of a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum FromPool {
    /// `mining.notify`.
    Job(Job),
    /// `mining.set_target`: from the next job on.
    SetTarget(Target),
    /// `mining.set_extranonce`: the first bytes of the nonce, from the next job on.
    SetExtranonce(Vec<u8>),
    /// What is the same in Stratum v1, such as replies and `mining.set_difficulty`.
    V1(v1::FromPool),
}

impl FromPool {
    /// The message as a line, without its end.
    pub fn encode(&self) -> String {
        let (method, params) = match self {
            Self::Job(job) => ("mining.notify", encode(job)),
            Self::SetTarget(target) => ("mining.set_target", json!([digits(*target)])),
            Self::SetExtranonce(extranonce) => {
                ("mining.set_extranonce", json!([hex::encode(extranonce)]))
            }
            Self::V1(message) => return message.encode(),
        };
        json!({"id": null, "method": method, "params": params}).to_string()
    }

    /// Reads a line that a pool sent.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        let message = object(line)?;
        let params = message.get("params");
        match message.get("method").and_then(Value::as_str) {
            Some("mining.notify") => decode(Fields::new("mining.notify", params)).map(Self::Job),
            Some("mining.set_target") => {
                let target = Fields::new("mining.set_target", params).at(0, "target");
                target.target().map(Self::SetTarget)
            }
            Some("mining.set_extranonce") => {
                extranonce(Fields::new("mining.set_extranonce", params).at(0, "extranonce"))
                    .map(Self::SetExtranonce)
            }
            _ => v1::FromPool::of(&message).map(Self::V1),
        }
    }
}

/// Writes a job. One with a target is Ravencoin's, whose header comes first.
fn encode(job: &Job) -> Value {
    let (header, seed) = (hex::encode(job.header), hex::encode(job.seed));
    let Some(target) = job.target else {
        return json!([job.id, seed, header, job.clean]);
    };
    let mut params =
        vec![json!(job.id), json!(header), json!(seed), json!(digits(target)), json!(job.clean)];
    if job.height.is_some() || job.bits.is_some() {
        params.push(json!(job.height));
        params.push(json!(job.bits.map(|bits| format!("{bits:08x}"))));
    }
    params.into()
}

fn decode(fields: Fields<'_>) -> Result<Job, Malformed> {
    let id = fields.at(0, "job").name()?;
    let fourth = fields.at(3, "target");
    if !fourth.value.is_some_and(Value::is_string) {
        return Ok(Job {
            id,
            seed: fields.at(1, "seed").hash()?,
            header: fields.at(2, "header").hash()?,
            target: None,
            height: None,
            bits: None,
            clean: fourth.switch(),
        });
    }
    Ok(Job {
        id,
        header: fields.at(1, "header").hash()?,
        seed: fields.at(2, "seed").hash()?,
        target: Some(fourth.target()?),
        height: fields.at(5, "height").height_if_any(),
        bits: fields.at(6, "bits").hex32().ok(),
        clean: fields.at(4, "clean jobs").switch(),
    })
}

/// Returns a target in 64 hexadecimal digits.
fn digits(target: Target) -> String {
    hex::encode(target.to_be_bytes())
}

/// Reads the first bytes of the nonce. `NiceHash` allows three; one byte at least is the miner's.
fn extranonce(field: Field<'_>) -> Result<Vec<u8>, Malformed> {
    field.few_bytes(NONCE - 1, "up to 7 bytes in hexadecimal digits")
}

/// The result of `mining.subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The protocol and its version, if the pool names them.
    pub version: Option<String>,
    /// The first bytes of the nonce, which are the pool's.
    pub extranonce: Vec<u8>,
}

impl Subscribed {
    /// Writes the result of a [`v1::Reply`].
    pub fn encode(&self) -> Value {
        let version = self.version.as_ref();
        let subscription = version.map(|version| json!(["mining.notify", "loopback", version]));
        json!([subscription, hex::encode(&self.extranonce)])
    }

    /// Reads the result of a [`v1::Reply`].
    pub fn decode(result: &Value) -> Result<Self, Malformed> {
        let fields = Fields::new("mining.subscribe's result", Some(result));
        let version = result.get(0).and_then(|subscription| subscription.get(2));
        Ok(Self {
            version: version.and_then(Value::as_str).map(str::to_owned),
            // A pool that leaves the whole nonce to the miner may answer with `true`.
            extranonce: fields.at(1, "extranonce").maybe(extranonce)?.unwrap_or_default(),
        })
    }
}

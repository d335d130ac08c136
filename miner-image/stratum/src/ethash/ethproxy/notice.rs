//! Messages of a pool.

use serde_json::{Value, json};

use crate::ethash::Job;
use crate::malformed::{Field, Fields, Malformed, object, unknown};
use crate::message::{Failure, Id};
use crate::v1::Reply;

/// A message of a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum FromPool {
    /// A job: the answer to `eth_getWork`, or one that is pushed with a number of the pool's choice, which
    /// often is 0.
    Job(Option<Id>, Job),
    /// The answer to another request.
    Reply(Reply),
}

impl FromPool {
    /// The message as a line, without its end.
    pub fn encode(&self) -> String {
        let number = |id: &Option<Id>| id.as_ref().map_or(Value::Null, Id::encode);
        match self {
            Self::Job(id, job) => {
                json!({"id": number(id), "jsonrpc": "2.0", "result": encode(job)})
            }
            Self::Reply(Reply { id, result: Ok(result) }) => {
                json!({"id": number(id), "jsonrpc": "2.0", "result": result})
            }
            Self::Reply(Reply { id, result: Err(Failure { code, message }) }) => json!({
                "id": number(id),
                "jsonrpc": "2.0",
                "result": null,
                "error": {"code": code, "message": message},
            }),
        }
        .to_string()
    }

    /// Reads a line that a pool sent. A list is a job, whatever its number: pools push jobs with numbers
    /// that miners use as well.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        let message = object(line)?;
        let result = message.get("result");
        if result.is_some_and(Value::is_array) {
            let job = decode(Fields::new("the job", result))?;
            return Ok(Self::Job(Id::of_reply(&message), job));
        }
        let method = Fields::new("message", Some(&message)).named("method").maybe(Field::text);
        match method? {
            Some(method) if result.is_none() => Err(unknown(method)),
            _ => Ok(Self::Reply(Reply::decode(&message))),
        }
    }
}

fn encode(job: &Job) -> Value {
    let target = job.target.map(|target| format!("0x{}", hex::encode(target.to_be_bytes())));
    let mut parts = vec![
        json!(format!("0x{}", hex::encode(job.header))),
        json!(format!("0x{}", hex::encode(job.seed))),
        json!(target),
    ];
    parts.extend(job.height.map(|height| json!(format!("0x{height:x}"))));
    parts.into()
}

fn decode(fields: Fields<'_>) -> Result<Job, Malformed> {
    let header = fields.at(0, "header").hash()?;
    Ok(Job {
        id: hex::encode(header),
        header,
        seed: fields.at(1, "seed").hash()?,
        target: Some(fields.at(2, "target").target()?),
        height: fields.at(3, "height").height_if_any(),
        bits: None,
        // Pools accept shares for the last few, and do not say for which.
        clean: false,
    })
}

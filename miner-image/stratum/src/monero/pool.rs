//! Messages of a pool.

use serde_json::{Value, json};

use crate::Target;
use crate::malformed::{Field, Fields, Malformed, object, unknown};
use crate::message::{Failure, Id, NO_REASON};

/// A message of a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum FromPool {
    /// `job`: replaces the job before.
    Job(Job),
    /// The answer to a request.
    Reply(Reply),
}

/// A job: a blob to hash with nonces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    /// The input of the hash, with four bytes for the nonce at [`Job::NONCE`].
    pub blob: Vec<u8>,
    /// Largest value of the hash's upper 64 bits.
    pub target: u64,
    /// The algorithm, if the pool names it.
    pub algorithm: Option<String>,
    /// The block's height, if the pool names it.
    pub height: Option<u64>,
    /// The key of `RandomX`, if the algorithm has one.
    pub seed: Option<[u8; 32]>,
}

/// The reply to a request. Its meaning depends on the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The request's number; none if the pool could not read the request.
    pub id: Option<Id>,
    /// An object with a `status`, or [`LoggedIn`].
    pub result: Result<Value, Failure>,
}

/// The result of `login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The session's name, which each share repeats.
    pub session: String,
    pub job: Job,
    /// Extensions of the pool, such as `keepalive`.
    pub extensions: Vec<String>,
}

impl FromPool {
    /// The message as a line, without its end.
    pub fn encode(&self) -> String {
        match self {
            Self::Job(job) => json!({"jsonrpc": "2.0", "method": "job", "params": job.encode()}),
            Self::Reply(Reply { id, result }) => {
                let id = id.as_ref().map_or(Value::Null, Id::encode);
                match result {
                    Ok(result) => {
                        json!({"id": id, "jsonrpc": "2.0", "error": null, "result": result})
                    }
                    Err(Failure { code, message }) => json!({
                        "id": id,
                        "jsonrpc": "2.0",
                        "error": {"code": code, "message": message},
                    }),
                }
            }
        }
        .to_string()
    }

    /// Reads a line that a pool sent.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        let message = object(line)?;
        let head = Fields::new("message", Some(&message));
        if let Some(method) = head.named("method").maybe(Field::text)? {
            return match method {
                "job" => Job::decode(Fields::new("job", message.get("params"))).map(Self::Job),
                other => Err(unknown(other)),
            };
        }
        let result = match Failure::of_reply(&message) {
            Some(failure) => Err(failure),
            None => Ok(message.get("result").cloned().unwrap_or_default()),
        };
        Ok(Self::Reply(Reply { id: Id::of_reply(&message), result }))
    }
}

impl Reply {
    /// Reads the reply to a share: any result but null and false accepts it.
    pub fn accepted(&self) -> Result<(), Failure> {
        match &self.result {
            Ok(Value::Null | Value::Bool(false)) => Err(Failure::new(-1, NO_REASON)),
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.clone()),
        }
    }
}

impl LoggedIn {
    /// Writes the result of a [`Reply`].
    pub fn encode(&self) -> Value {
        json!({
            "id": self.session,
            "job": self.job.encode(),
            "extensions": self.extensions,
            "status": "OK",
        })
    }

    /// Reads the result of a [`Reply`].
    pub fn decode(result: &Value) -> Result<Self, Malformed> {
        let fields = Fields::new("login's result", Some(result));
        Ok(Self {
            // A pool without sessions has none.
            session: fields.keyed("id", "session").maybe(Field::name)?.unwrap_or_default(),
            job: Job::decode(Fields::new("login's job", result.get("job")))?,
            extensions: fields.named("extensions").maybe(Field::texts)?.unwrap_or_default(),
        })
    }
}

impl Job {
    /// Place of the nonce's four bytes in the blob.
    pub const NONCE: std::ops::Range<usize> = 39..43;

    /// Returns the target as a number of 256 bits.
    pub fn target(&self) -> Target {
        Target::from_upper(self.target)
    }

    /// Returns the blob with a nonce in it.
    pub fn with_nonce(&self, nonce: [u8; 4]) -> Vec<u8> {
        let mut blob = self.blob.clone();
        blob[Self::NONCE].copy_from_slice(&nonce);
        blob
    }

    fn encode(&self) -> Value {
        let mut job = json!({
            "job_id": self.id,
            "blob": hex::encode(&self.blob),
            "target": hex::encode(self.target.to_le_bytes()),
        });
        if let Some(algorithm) = &self.algorithm {
            job["algo"] = json!(algorithm);
        }
        if let Some(height) = self.height {
            job["height"] = json!(height);
        }
        if let Some(seed) = self.seed {
            job["seed_hash"] = json!(hex::encode(seed));
        }
        job
    }

    fn decode(fields: Fields<'_>) -> Result<Self, Malformed> {
        let blob = fields.named("blob");
        let bytes = blob.bytes()?;
        if !(Self::NONCE.end..=408).contains(&bytes.len()) {
            return Err(blob.not("43 to 408 bytes in hexadecimal digits"));
        }
        Ok(Self {
            id: fields.keyed("job_id", "job").name()?,
            blob: bytes,
            target: target(fields.named("target"))?,
            algorithm: fields.keyed("algo", "algorithm").maybe(Field::string)?,
            height: fields.named("height").whole_if_any(),
            seed: (fields.keyed("seed_hash", "seed"))
                .unless_empty()
                .maybe(|seed| seed.array("32 bytes in hexadecimal digits"))?,
        })
    }
}

/// Reads a target of eight bytes, or of four, which every miner expands in the same way: to 2⁶⁴ - 1
/// over the difficulty, where the difficulty is 2³² - 1 over the four bytes.
fn target(field: Field<'_>) -> Result<u64, Malformed> {
    let wanted = "4 or 8 bytes in hexadecimal digits, above 0";
    let bytes = field.bytes()?;
    let target = if let Ok(four) = <[u8; 4]>::try_from(&*bytes) {
        let difficulty = u32::MAX.checked_div(u32::from_le_bytes(four));
        difficulty.map(|difficulty| u64::MAX / u64::from(difficulty))
    } else {
        let eight = <[u8; 8]>::try_from(&*bytes).map_err(|_| field.not(wanted))?;
        Some(u64::from_le_bytes(eight)).filter(|target| *target > 0)
    };
    target.ok_or_else(|| field.not(wanted))
}

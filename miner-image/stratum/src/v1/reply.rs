//! Replies of a pool.

use serde_json::{Value, json};

use crate::malformed::{Field, Fields, Malformed};
use crate::message::{Failure, Id, NO_REASON};

/// The reply to a request. Its meaning depends on the request: read it with [`Subscribed`] or
/// [`Configured`], or as true or false.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The request's number; none if the pool could not read the request.
    pub id: Option<Id>,
    pub result: Result<Value, Failure>,
}

impl Reply {
    pub(super) fn encode(&self) -> String {
        let id = self.id.as_ref().map_or(Value::Null, Id::encode);
        match &self.result {
            Ok(result) => json!({"id": id, "result": result, "error": null}),
            Err(Failure { code, message }) => {
                json!({"id": id, "result": null, "error": [code, message, null]})
            }
        }
        .to_string()
    }

    /// Reads a reply in any of the forms that pools give it. A result of true counts, whatever
    /// other fields there are.
    pub(crate) fn decode(message: &Value) -> Self {
        let result = message.get("result");
        let result = match Failure::of_reply(message) {
            Some(failure) if result != Some(&Value::Bool(true)) => Err(failure),
            _ => Ok(result.cloned().unwrap_or_default()),
        };
        Self { id: Id::of_reply(message), result }
    }

    /// Reads the reply to `mining.authorize` or `mining.submit`, which is true or a failure.
    pub fn accepted(&self) -> Result<(), Failure> {
        match &self.result {
            Ok(Value::Bool(true)) => Ok(()),
            Ok(_) => Err(Failure::new(Failure::OTHER, NO_REASON)),
            Err(failure) => Err(failure.clone()),
        }
    }
}

/// The result of `mining.subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The session's name, with which a miner may resume it.
    pub session: String,
    /// The pool's part of the coinbase.
    pub extranonce1: Vec<u8>,
    /// How many bytes the miner adds.
    pub extranonce2_size: u8,
}

impl Subscribed {
    /// Writes the result of a [`Reply`].
    pub fn encode(&self) -> Value {
        json!([
            [["mining.set_difficulty", self.session], ["mining.notify", self.session]],
            hex::encode(&self.extranonce1),
            self.extranonce2_size,
        ])
    }

    /// Reads the result of a [`Reply`].
    pub fn decode(result: &Value) -> Result<Self, Malformed> {
        let fields = Fields::new("mining.subscribe's result", Some(result));
        // Pools send a list of pairs, one pair, or something else.
        let subscriptions = result.get(0);
        let session = subscriptions
            .and_then(|subscriptions| subscriptions.get(0))
            .and_then(|first| first.get(1))
            .or_else(|| subscriptions.and_then(|pair| pair.get(1)))
            .and_then(Value::as_str)
            .unwrap_or_default();
        Ok(Self {
            session: session.into(),
            extranonce1: fields.at(1, "extranonce1").bytes()?,
            extranonce2_size: fields.at(2, "extranonce2 size").small("from 0 to 255")?,
        })
    }
}

/// The result of `mining.configure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Bits of the version that may be rolled; none if the pool does not allow it.
    pub version_mask: Option<u32>,
    /// Whether the pool will send `mining.set_extranonce`.
    pub extranonce: bool,
}

impl Configured {
    /// Writes the result of a [`Reply`].
    pub fn encode(&self) -> Value {
        let mut result = json!({
            "version-rolling": self.version_mask.is_some(),
            "subscribe-extranonce": self.extranonce,
        });
        if let Some(mask) = self.version_mask {
            result["version-rolling.mask"] = json!(format!("{mask:08x}"));
        }
        result
    }

    /// Reads the result of a [`Reply`].
    pub fn decode(result: &Value) -> Result<Self, Malformed> {
        let fields = Fields::new("mining.configure's result", Some(result));
        // Instead of false, a pool may send a text with the reason.
        let granted = |key| result.get(key).and_then(Value::as_bool).unwrap_or(false);
        let mask = fields.keyed("version-rolling.mask", "mask");
        Ok(Self {
            version_mask: match granted("version-rolling") {
                // Without a mask nothing may be rolled until the pool sets one.
                true => Some(mask.maybe(Field::hex32)?.unwrap_or(0)),
                false => None,
            },
            extranonce: granted("subscribe-extranonce"),
        })
    }
}

//! Requests of a miner.

use serde_json::{Value, json};

use crate::Difficulty;
use crate::malformed::{Field, Fields, Malformed, object, unknown};
use crate::message::Id;

/// A request of a miner.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Id,
    pub call: Call,
}

/// Method of a request, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `mining.configure`: the extensions that the miner supports.
    Configure {
        extensions: Vec<String>,
        /// Its wishes for version rolling, if that is among them.
        version_rolling: Option<VersionRolling>,
    },
    /// `mining.subscribe`: a request for jobs.
    Subscribe {
        agent: String,
        /// Name of a session to resume.
        session: Option<String>,
    },
    /// `mining.authorize`: the login.
    Authorize {
        /// The worker's name, which often holds the wallet.
        user: String,
        /// Its password, which pools often ignore.
        password: String,
    },
    /// `mining.extranonce.subscribe`: the miner supports `mining.set_extranonce`.
    SubscribeExtranonce,
    /// `mining.suggest_difficulty`.
    SuggestDifficulty(Difficulty),
    /// `mining.submit`: a share.
    Submit(Submit),
}

/// A miner's wishes for version rolling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRolling {
    /// Bits that it can roll.
    pub mask: u32,
    /// Number of bits that it needs.
    pub min_bits: u8,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    pub user: String,
    pub job: String,
    /// The miner's part of the coinbase.
    pub extranonce2: Vec<u8>,
    pub time: u32,
    pub nonce: u32,
    /// Bits of the version that were rolled, within the mask.
    pub version_bits: Option<u32>,
}

impl Request {
    /// The request as a line, without its end.
    pub fn encode(&self) -> String {
        let (method, params) = match &self.call {
            Call::Configure { extensions, version_rolling } => {
                ("mining.configure", json!([extensions, parameters(*version_rolling)]))
            }
            Call::Subscribe { agent, session: None } => ("mining.subscribe", json!([agent])),
            Call::Subscribe { agent, session: Some(session) } => {
                ("mining.subscribe", json!([agent, session]))
            }
            Call::Authorize { user, password } => ("mining.authorize", json!([user, password])),
            Call::SubscribeExtranonce => ("mining.extranonce.subscribe", json!([])),
            Call::SuggestDifficulty(difficulty) => {
                ("mining.suggest_difficulty", json!([difficulty.get()]))
            }
            Call::Submit(submit) => ("mining.submit", submit.encode()),
        };
        json!({"id": self.id.encode(), "method": method, "params": params}).to_string()
    }

    /// Reads a line that a miner sent.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        Self::of(&object(line)?)
    }

    /// Reads a message.
    pub(crate) fn of(message: &Value) -> Result<Self, Malformed> {
        let head = Fields::new("request", Some(message));
        let (id, method) = (Id::required(head.named("id"))?, head.named("method").text()?);
        let params = message.get("params");
        let call = match method {
            "mining.configure" => configure(Fields::new("mining.configure", params))?,
            "mining.subscribe" => {
                let fields = Fields::new("mining.subscribe", params);
                Call::Subscribe {
                    // Some engines do not name themselves.
                    agent: fields.at(0, "agent").maybe(Field::string)?.unwrap_or_default(),
                    session: fields.at(1, "session").maybe(Field::string)?,
                }
            }
            "mining.authorize" => {
                let fields = Fields::new("mining.authorize", params);
                Call::Authorize {
                    user: fields.at(0, "user").string()?,
                    password: fields.at(1, "password").maybe(Field::string)?.unwrap_or_default(),
                }
            }
            "mining.extranonce.subscribe" => Call::SubscribeExtranonce,
            "mining.suggest_difficulty" => Call::SuggestDifficulty(
                Fields::new("mining.suggest_difficulty", params)
                    .at(0, "difficulty")
                    .difficulty()?,
            ),
            "mining.submit" => Call::Submit(Submit::decode(Fields::new("mining.submit", params))?),
            other => return Err(unknown(other)),
        };
        Ok(Self { id, call })
    }
}

fn parameters(version_rolling: Option<VersionRolling>) -> Value {
    match version_rolling {
        None => json!({}),
        Some(VersionRolling { mask, min_bits }) => json!({
            "version-rolling.mask": format!("{mask:08x}"),
            "version-rolling.min-bit-count": min_bits,
        }),
    }
}

fn configure(fields: Fields<'_>) -> Result<Call, Malformed> {
    let extensions = fields.at(0, "extensions").texts()?;
    let parameters = Fields::new("mining.configure", fields.at(1, "parameters").value);
    let mask = parameters.keyed("version-rolling.mask", "mask").maybe(Field::hex32)?;
    let min_bits = (parameters.keyed("version-rolling.min-bit-count", "min-bit-count"))
        .maybe(|bits| bits.small("from 0 to 255"))?
        .unwrap_or(0);
    let rolls = mask.is_some() || extensions.iter().any(|name| name == "version-rolling");
    // BIP 310: a miner that does not name its bits can roll all.
    let mask = mask.unwrap_or(u32::MAX);
    let version_rolling = rolls.then_some(VersionRolling { mask, min_bits });
    Ok(Call::Configure { extensions, version_rolling })
}

impl Submit {
    fn encode(&self) -> Value {
        let mut params = vec![
            self.user.clone(),
            self.job.clone(),
            hex::encode(&self.extranonce2),
            format!("{:08x}", self.time),
            format!("{:08x}", self.nonce),
        ];
        params.extend(self.version_bits.map(|bits| format!("{bits:08x}")));
        json!(params)
    }

    fn decode(fields: Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            user: fields.at(0, "user").string()?,
            job: fields.at(1, "job").string()?,
            extranonce2: fields.at(2, "extranonce2").bytes()?,
            time: fields.at(3, "time").hex32()?,
            nonce: fields.at(4, "nonce").hex32()?,
            version_bits: fields.at(5, "version bits").maybe(Field::hex32)?,
        })
    }
}

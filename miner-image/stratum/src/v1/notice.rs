//! Messages that a pool sends unasked.

use serde_json::{Value, json};

use super::Reply;
use crate::Difficulty;
use crate::malformed::{Field, Fields, Malformed, object, unknown};
use crate::message::Id;
use crate::session::AGENT;

/// A message of a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum FromPool {
    Notice(Notice),
    /// The answer to a request.
    Reply(Reply),
    /// A request to the miner.
    Asks(Id, Question),
}

/// Request of a pool to a miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `client.get_version`: for the program's version.
    Version,
    /// `mining.ping`: for a sign of life.
    Ping,
}

impl Question {
    /// Returns the miner's answer, as a line.
    pub(crate) fn answer(self, id: Id) -> String {
        let answer = match self {
            Self::Version => AGENT,
            Self::Ping => "pong",
        };
        Reply { id: Some(id), result: Ok(answer.into()) }.encode()
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Version => "client.get_version",
            Self::Ping => "mining.ping",
        }
    }
}

/// A message that needs no reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// `mining.notify`: a job.
    Job(Job),
    /// `mining.set_difficulty`: from the next job on.
    SetDifficulty(Difficulty),
    /// `mining.set_extranonce`: from the next job on.
    SetExtranonce {
        /// The pool's part of the coinbase.
        extranonce1: Vec<u8>,
        /// How many bytes the miner adds, at most 255.
        extranonce2_size: u8,
    },
    /// `mining.set_version_mask`: the bits that may be rolled.
    SetVersionMask(u32),
    /// `client.reconnect`.
    Reconnect(Redirect),
    /// `client.show_message`: text for people.
    ShowMessage(String),
}

/// Address at which the miner is to connect again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// None for the same host.
    pub host: Option<String>,
    /// None for the same port.
    pub port: Option<u16>,
    /// Seconds to wait before.
    pub wait: u32,
}

/// A job: a block's header in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    /// The hash of the block before, in the header's order. (On the wire the bytes of each of its eight
    /// words are reversed.)
    pub previous: [u8; 32],
    /// The coinbase up to the extranonces.
    pub coinbase1: Vec<u8>,
    /// The coinbase after them.
    pub coinbase2: Vec<u8>,
    /// The hashes with which the coinbase's is joined, step by step, to the Merkle root.
    pub branches: Vec<[u8; 32]>,
    pub version: u32,
    /// The network's target, in the compact form of the header.
    pub bits: u32,
    pub time: u32,
    /// Whether shares for earlier jobs no longer count.
    pub clean: bool,
}

impl FromPool {
    /// The message as a line, without its end.
    pub fn encode(&self) -> String {
        match self {
            Self::Notice(notice) => notice.encode(),
            Self::Reply(reply) => reply.encode(),
            Self::Asks(id, question) => {
                json!({"id": id.encode(), "method": question.method(), "params": []}).to_string()
            }
        }
    }

    /// Reads a line that a pool sent.
    pub fn decode(line: &[u8]) -> Result<Self, Malformed> {
        Self::of(&object(line)?)
    }

    /// Reads a message.
    pub(crate) fn of(message: &Value) -> Result<Self, Malformed> {
        let head = Fields::new("message", Some(message));
        let Some(method) = head.named("method").maybe(Field::text)? else {
            return Ok(Self::Reply(Reply::decode(message)));
        };
        let questions = [Question::Version, Question::Ping];
        if let Some(question) = questions.into_iter().find(|question| question.method() == method) {
            // Without a number no answer is expected.
            let id = Id::of_reply(message).ok_or_else(|| unknown(method))?;
            return Ok(Self::Asks(id, question));
        }
        let params = message.get("params");
        let notice = match method {
            "mining.notify" => Notice::Job(Job::decode(Fields::new("mining.notify", params))?),
            "mining.set_difficulty" => Notice::SetDifficulty(
                Fields::new("mining.set_difficulty", params).at(0, "difficulty").difficulty()?,
            ),
            "mining.set_extranonce" => {
                let fields = Fields::new("mining.set_extranonce", params);
                Notice::SetExtranonce {
                    extranonce1: fields.at(0, "extranonce1").bytes()?,
                    extranonce2_size: fields.at(1, "extranonce2 size").small("from 0 to 255")?,
                }
            }
            "mining.set_version_mask" => Notice::SetVersionMask(
                Fields::new("mining.set_version_mask", params).at(0, "mask").hex32()?,
            ),
            "client.reconnect" => {
                Notice::Reconnect(Redirect::decode(Fields::new("client.reconnect", params))?)
            }
            "client.show_message" => Notice::ShowMessage(
                Fields::new("client.show_message", params).at(0, "message").string()?,
            ),
            other => return Err(unknown(other)),
        };
        Ok(Self::Notice(notice))
    }
}

impl Notice {
    fn encode(&self) -> String {
        let (method, params) = match self {
            Self::Job(job) => ("mining.notify", job.encode()),
            Self::SetDifficulty(difficulty) => ("mining.set_difficulty", json!([difficulty.get()])),
            Self::SetExtranonce { extranonce1, extranonce2_size } => {
                ("mining.set_extranonce", json!([hex::encode(extranonce1), extranonce2_size]))
            }
            Self::SetVersionMask(mask) => {
                ("mining.set_version_mask", json!([format!("{mask:08x}")]))
            }
            Self::Reconnect(redirect) => {
                ("client.reconnect", json!([redirect.host, redirect.port, redirect.wait]))
            }
            Self::ShowMessage(message) => ("client.show_message", json!([message])),
        };
        json!({"id": null, "method": method, "params": params}).to_string()
    }
}

impl Redirect {
    fn decode(fields: Fields<'_>) -> Result<Self, Malformed> {
        let (host, port, wait) = (fields.at(0, "host"), fields.at(1, "port"), fields.at(2, "wait"));
        Ok(Self {
            // An empty name is the same as none.
            host: host.maybe(Field::string)?.filter(|host| !host.is_empty()),
            // An empty or impossible port is the same as none.
            port: port
                .whole_if_any()
                .and_then(|port| u16::try_from(port).ok())
                .filter(|it| *it > 0),
            wait: wait.whole_if_any().map_or(0, |wait| u32::try_from(wait).unwrap_or(u32::MAX)),
        })
    }
}

impl Job {
    fn encode(&self) -> Value {
        json!([
            self.id,
            hex::encode(turned(self.previous)),
            hex::encode(&self.coinbase1),
            hex::encode(&self.coinbase2),
            self.branches.iter().map(hex::encode).collect::<Vec<_>>(),
            format!("{:08x}", self.version),
            format!("{:08x}", self.bits),
            format!("{:08x}", self.time),
            self.clean,
        ])
    }

    fn decode(fields: Fields<'_>) -> Result<Self, Malformed> {
        let branches = fields.at(4, "Merkle branches");
        Ok(Self {
            id: fields.at(0, "job").name()?,
            previous: turned(
                fields.at(1, "previous block").array("32 bytes in hexadecimal digits")?,
            ),
            coinbase1: fields.at(2, "coinbase1").bytes()?,
            coinbase2: fields.at(3, "coinbase2").bytes()?,
            branches: (branches.maybe(Field::texts)?.unwrap_or_default().iter())
                .map(|branch| {
                    let mut hash = [0; 32];
                    hex::decode_to_slice(branch, &mut hash)
                        .map(|()| hash)
                        .map_err(|_| branches.not("a list of 32 bytes in hexadecimal digits each"))
                })
                .collect::<Result<_, _>>()?,
            version: fields.at(5, "version").hex32()?,
            bits: fields.at(6, "bits").hex32()?,
            time: fields.at(7, "time").hex32()?,
            clean: fields.at(8, "clean jobs").switch(),
        })
    }
}

/// Turns each word of four bytes round.
fn turned(mut hash: [u8; 32]) -> [u8; 32] {
    for word in hash.as_chunks_mut::<4>().0 {
        word.reverse();
    }
    hash
}

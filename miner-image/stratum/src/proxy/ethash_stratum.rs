//! Ethash's dialects with Stratum's methods, for engines.

use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::Value;

use super::v1::{reply, unread};
use super::{Action, Frontend};
use crate::Malformed;
use crate::client::{Offer, Verdict};
use crate::ethash::stratum::{Call, FromPool, Request, Session, Subscribed, Variant};
use crate::ethash::{Job, Limit, Share, Work};
use crate::message::{Failure, Id};
use crate::v1::{self, Configured, Notice};

/// State that was sent to an engine so far.
#[derive(Debug)]
pub struct EthashStratum<V> {
    /// The pool's bytes of the nonce, once it has subscribed.
    extranonce: Option<Vec<u8>>,
    /// Whether it accepts a change of them.
    accepts_extranonce: bool,
    authorized: bool,
    limit: Option<Limit>,
    era: Option<u64>,
    variant: PhantomData<fn() -> V>,
}

impl<V> Default for EthashStratum<V> {
    fn default() -> Self {
        Self {
            extranonce: None,
            accepts_extranonce: false,
            authorized: false,
            limit: None,
            era: None,
            variant: PhantomData,
        }
    }
}

impl<V: Variant> Frontend for EthashStratum<V> {
    type Session = Session<V>;

    fn receive(
        &mut self,
        line: &[u8],
        offer: &Offer<Work>,
    ) -> Result<Vec<Action<Share>>, Malformed> {
        let Request { id, call } = Request::decode(line)?;
        let result = match call {
            // Engines do both in either order.
            Call::Subscribe { .. } => {
                let extranonce = offer.work.extranonce.clone();
                self.extranonce = Some(extranonce.clone());
                let version = V::VERSION.map(str::to_owned);
                return Ok(self.begin(id, Subscribed { version, extranonce }.encode(), offer));
            }
            Call::V1(v1::Call::Authorize { .. }) => {
                self.authorized = true;
                return Ok(self.begin(id, true.into(), offer));
            }
            Call::V1(v1::Call::SubscribeExtranonce) => {
                self.accepts_extranonce = true;
                Ok(true.into())
            }
            Call::V1(v1::Call::Configure { extensions, .. }) => {
                self.accepts_extranonce |=
                    extensions.iter().any(|name| name == "subscribe-extranonce");
                let extranonce = self.accepts_extranonce;
                Ok(Configured { version_mask: None, extranonce }.encode())
            }
            // The difficulty is the pool's to set, and of the hashrate the shares are what counts.
            Call::V1(v1::Call::SuggestDifficulty(_)) | Call::SubmitHashrate => Ok(true.into()),
            Call::Submit(_) if !self.is_ready() => {
                Err(Failure::new(Failure::UNAUTHORIZED, "Unauthorized worker"))
            }
            Call::Submit(submit) => match named(&submit.job) {
                Some((connection, job)) => {
                    let mix = submit.solution.map(|(_, mix)| mix);
                    let share = Share { job, nonce: submit.nonce, mix };
                    return Ok(vec![Action::Submit { id, connection, share }]);
                }
                None => Err(Failure::new(Failure::STALE, "Job not found")),
            },
            // The codec reads these in the layout of this dialect.
            Call::V1(v1::Call::Subscribe { .. } | v1::Call::Submit(_)) => {
                Err(Failure::new(Failure::OTHER, "Not a request of this dialect"))
            }
        };
        Ok(vec![Action::Send(reply(id, result))])
    }

    fn offer(&mut self, offer: &Offer<Work>) -> Option<Vec<String>> {
        let Work { job, extranonce, limit } = &offer.work;
        let mut messages = vec![];
        if self.extranonce.as_ref().is_some_and(|sent| sent != extranonce) {
            if !self.accepts_extranonce {
                return None;
            }
            self.extranonce = Some(extranonce.clone());
            messages.push(FromPool::SetExtranonce(extranonce.clone()));
        }
        if self.is_ready() {
            if self.limit.replace(*limit) != Some(*limit) {
                messages.push(match limit {
                    Limit::Difficulty(difficulty) => {
                        FromPool::V1(v1::FromPool::Notice(Notice::SetDifficulty(*difficulty)))
                    }
                    Limit::Target(target) => FromPool::SetTarget(*target),
                });
            }
            let clean = self.era.replace(offer.era) != Some(offer.era);
            let id = name(offer.connection, &job.id);
            messages.push(FromPool::Job(Job { id, clean, ..Arc::unwrap_or_clone(job.clone()) }));
        }
        Some(messages.iter().map(FromPool::encode).collect())
    }

    fn verdict(&self, id: Id, verdict: Verdict) -> String {
        reply(id, super::judged(verdict))
    }

    fn error(&self, id: Option<Id>, error: &Malformed) -> String {
        unread(id, error)
    }
}

impl<V: Variant> EthashStratum<V> {
    /// Whether the engine may be sent jobs.
    fn is_ready(&self) -> bool {
        self.authorized && self.extranonce.is_some()
    }

    /// Returns the answer to a part of the login, and the first job behind the last part.
    fn begin(&mut self, id: Id, result: Value, offer: &Offer<Work>) -> Vec<Action<Share>> {
        let job = self.offer(offer).unwrap_or_default();
        [reply(id, Ok(result))].into_iter().chain(job).map(Action::Send).collect()
    }
}

/// Digits of the connection in a job's name.
const CONNECTION: usize = 8;

/// Returns the engine's name of a job, with the connection as [`super::name`] has it, but in hexadecimal
/// digits only: `NiceHash` demands that, and ethminer keeps a name as a number.
fn name(connection: u64, job: &str) -> String {
    format!("{:0CONNECTION$x}{job}", connection & 0xffff_ffff)
}

/// Returns the connection and the pool's name of a job.
fn named(name: &str) -> Option<(u64, String)> {
    let (connection, job) = name.split_at_checked(CONNECTION)?;
    Some((u64::from_str_radix(connection, 16).ok()?, job.into()))
}

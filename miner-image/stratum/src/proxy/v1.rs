//! Stratum v1 for engines.

use std::sync::Arc;

use super::{Action, Frontend, name, named};
use crate::client::{Offer, Verdict};
use crate::message::{Failure, Id};
use crate::v1::{
    Call, Configured, FromPool, Job, Notice, Reply, Request, Session, Share, Subscribed, Work,
};
use crate::{Difficulty, Malformed};

/// State that was sent to an engine so far.
#[derive(Debug, Default)]
pub struct V1 {
    /// The pool's part of the coinbase and the size of the miner's, once it has subscribed.
    extranonce: Option<(Vec<u8>, u8)>,
    /// Whether it accepts a change of them.
    accepts_extranonce: bool,
    /// Bits of the version that it may roll.
    mask: u32,
    authorized: bool,
    difficulty: Option<Difficulty>,
    era: Option<u64>,
}

impl Frontend for V1 {
    type Session = Session;

    fn receive(
        &mut self,
        line: &[u8],
        offer: &Offer<Work>,
    ) -> Result<Vec<Action<Share>>, Malformed> {
        let Request { id, call } = Request::decode(line)?;
        let result = match call {
            Call::Configure { extensions, version_rolling } => {
                self.mask =
                    version_rolling.map_or(0, |rolling| rolling.mask & offer.work.version_mask);
                self.accepts_extranonce |=
                    extensions.iter().any(|name| name == "subscribe-extranonce");
                let version_mask = Some(self.mask).filter(|mask| *mask > 0);
                Ok(Configured { version_mask, extranonce: self.accepts_extranonce }.encode())
            }
            Call::Subscribe { .. } => {
                let Work { extranonce1, extranonce2_size, .. } = offer.work.clone();
                self.extranonce = Some((extranonce1.clone(), extranonce2_size));
                let session = "loopback".into();
                Ok(Subscribed { session, extranonce1, extranonce2_size }.encode())
            }
            Call::Authorize { .. } if self.extranonce.is_none() => {
                Err(Failure::new(Failure::NOT_SUBSCRIBED, "Not subscribed"))
            }
            Call::Authorize { .. } => {
                self.authorized = true;
                let job = self.offer(offer).unwrap_or_default();
                let lines = [reply(id, Ok(true.into()))].into_iter().chain(job);
                return Ok(lines.map(Action::Send).collect());
            }
            Call::SubscribeExtranonce => {
                self.accepts_extranonce = true;
                Ok(true.into())
            }
            // The difficulty is the pool's to set: verdicts must be the same for pool and engine.
            Call::SuggestDifficulty(_) => Ok(true.into()),
            Call::Submit(_) if !self.authorized => {
                Err(Failure::new(Failure::UNAUTHORIZED, "Unauthorized worker"))
            }
            Call::Submit(submit) => match named(&submit.job) {
                Some((connection, job)) => {
                    let share = Share {
                        job,
                        extranonce2: submit.extranonce2,
                        time: submit.time,
                        nonce: submit.nonce,
                        version_bits: submit.version_bits.map(|bits| bits & self.mask),
                    };
                    return Ok(vec![Action::Submit { id, connection, share }]);
                }
                None => Err(Failure::new(Failure::STALE, "Job not found")),
            },
        };
        Ok(vec![Action::Send(reply(id, result))])
    }

    fn offer(&mut self, offer: &Offer<Work>) -> Option<Vec<String>> {
        let Work { job, extranonce1, extranonce2_size, difficulty, version_mask } = &offer.work;
        let mut notices = vec![];
        let extranonce = (extranonce1.clone(), *extranonce2_size);
        if self.extranonce.as_ref().is_some_and(|sent| *sent != extranonce) {
            if !self.accepts_extranonce {
                return None;
            }
            self.extranonce = Some(extranonce);
            notices.push(Notice::SetExtranonce {
                extranonce1: extranonce1.clone(),
                extranonce2_size: *extranonce2_size,
            });
        }
        if self.mask & !version_mask != 0 {
            self.mask &= version_mask;
            notices.push(Notice::SetVersionMask(self.mask));
        }
        if self.authorized {
            if self.difficulty.replace(*difficulty) != Some(*difficulty) {
                notices.push(Notice::SetDifficulty(*difficulty));
            }
            let clean = self.era.replace(offer.era) != Some(offer.era);
            let id = name(offer.connection, &job.id);
            notices.push(Notice::Job(Job { id, clean, ..Arc::unwrap_or_clone(Arc::clone(job)) }));
        }
        Some(notices.into_iter().map(|notice| FromPool::Notice(notice).encode()).collect())
    }

    fn verdict(&self, id: Id, verdict: Verdict) -> String {
        reply(id, super::judged(verdict))
    }

    fn error(&self, id: Option<Id>, error: &Malformed) -> String {
        unread(id, error)
    }
}

/// Returns the reply to a line that cannot be handled.
pub(super) fn unread(id: Option<Id>, error: &Malformed) -> String {
    let result = Err(Failure::new(Failure::OTHER, error.to_string()));
    FromPool::Reply(Reply { id, result }).encode()
}

/// Returns the reply to a request.
pub(super) fn reply(id: Id, result: Result<serde_json::Value, Failure>) -> String {
    FromPool::Reply(Reply { id: Some(id), result }).encode()
}

//! `EthProxy` for engines.

use std::collections::VecDeque;

use serde_json::Value;

use super::{Action, Frontend};
use crate::Malformed;
use crate::client::{Offer, Verdict};
use crate::ethash::ethproxy::{Call, FromPool, Request, Session};
use crate::ethash::{Share, Work};
use crate::message::{Failure, Id};
use crate::v1::Reply;

/// State that was sent to an engine so far.
#[derive(Debug, Default)]
pub struct EthProxy {
    logged_in: bool,
    /// The headers that were sent, the newest last, each with the connection on which its job arrived.
    /// The dialect has no names for jobs.
    sent: VecDeque<([u8; 32], u64)>,
}

/// Most headers that shares may be for.
const MOST_SENT: usize = 64;

/// Number of a job that no request asked for.
const PUSHED: Id = Id::Number(0);

impl Frontend for EthProxy {
    type Session = Session;

    fn receive(
        &mut self,
        line: &[u8],
        offer: &Offer<Work>,
    ) -> Result<Vec<Action<Share>>, Malformed> {
        let Request { id, call, worker: _ } = Request::decode(line)?;
        let result = match call {
            Call::Login { .. } => {
                self.logged_in = true;
                Ok(true.into())
            }
            Call::GetWork => return Ok(vec![Action::Send(self.job(id, offer))]),
            // Of the hashrate the shares are what counts.
            Call::SubmitHashrate => Ok(true.into()),
            Call::Submit(_) if !self.logged_in => {
                Err(Failure::new(Failure::NOT_SUBSCRIBED, "Not subscribed"))
            }
            Call::Submit(submit) => {
                // Two connections may have given the same header, of which the newest one can take the share.
                let sent = self.sent.iter().rfind(|(header, _)| *header == submit.header);
                match sent {
                    Some((header, connection)) => {
                        let (job, nonce) = (hex::encode(header), submit.nonce.to_vec());
                        let share = Share { job, nonce, mix: Some(submit.mix) };
                        return Ok(vec![Action::Submit { id, connection: *connection, share }]);
                    }
                    None => Err(Failure::new(Failure::STALE, "Job not found")),
                }
            }
        };
        Ok(vec![Action::Send(reply(id, result))])
    }

    fn offer(&mut self, offer: &Offer<Work>) -> Option<Vec<String>> {
        Some(if self.logged_in { vec![self.job(PUSHED, offer)] } else { vec![] })
    }

    fn verdict(&self, id: Id, verdict: Verdict) -> String {
        reply(id, super::judged(verdict))
    }

    fn error(&self, id: Option<Id>, error: &Malformed) -> String {
        let result = Err(Failure::new(Failure::OTHER, error.to_string()));
        FromPool::Reply(Reply { id, result }).encode()
    }
}

impl EthProxy {
    /// Returns the line with the newest job, and notes that it is sent.
    fn job(&mut self, id: Id, offer: &Offer<Work>) -> String {
        let sent = (offer.work.job.header, offer.connection);
        // An engine may ask for the same job again and again.
        if !self.sent.contains(&sent) {
            self.sent.push_back(sent);
        }
        if self.sent.len() > MOST_SENT {
            self.sent.pop_front();
        }
        FromPool::Job(Some(id), offer.work.job.as_ref().clone()).encode()
    }
}

fn reply(id: Id, result: Result<Value, Failure>) -> String {
    FromPool::Reply(Reply { id: Some(id), result }).encode()
}

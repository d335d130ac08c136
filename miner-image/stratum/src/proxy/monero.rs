//! Monero's dialect for engines.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Act, Front, name, named};
use crate::Malformed;
use crate::client::{Offer, Verdict};
use crate::message::{Failure, Id};
use crate::monero::{Call, FromPool, Job, LoggedIn, Reply, Request, Session, Share, Work};

/// What an engine was told so far.
#[derive(Debug, Default)]
pub struct Monero {
    logged_in: bool,
}

/// The session's name, the same for all: a connection has but one.
const SESSION: &str = "loopback";

impl Front for Monero {
    type Session = Session;

    fn hear(&mut self, line: &[u8], offer: &Offer<Work>) -> Result<Vec<Act<Share>>, Malformed> {
        let Request { id, call } = Request::decode(line)?;
        let result = match call {
            Call::Login { .. } => {
                self.logged_in = true;
                let extensions = vec!["keepalive".into()];
                Ok(LoggedIn { session: SESSION.into(), job: job(offer), extensions }.encode())
            }
            Call::KeepAlive { .. } => Ok(json!({"status": "KEEPALIVED"})),
            Call::Submit(_) if !self.logged_in => Err(Failure::new(-1, "Unauthenticated")),
            Call::Submit(submit) => match named(&submit.job) {
                Some((connection, job)) => {
                    let share = Share { job, nonce: submit.nonce, result: submit.result };
                    return Ok(vec![Act::Submit { id, connection, share }]);
                }
                None => Err(Failure::new(-1, "Invalid job id")),
            },
        };
        Ok(vec![Act::Say(reply(id, result))])
    }

    fn offer(&mut self, offer: &Offer<Work>) -> Option<Vec<String>> {
        Some(if self.logged_in { vec![FromPool::Job(job(offer)).encode()] } else { vec![] })
    }

    fn judged(&self, id: Id, verdict: Verdict) -> String {
        reply(
            id,
            match verdict {
                Verdict::Accepted => Ok(json!({"status": "OK"})),
                Verdict::Rejected(failure) => Err(failure),
                Verdict::Stale => Err(Failure::new(-1, "Block expired")),
                Verdict::Lost => Err(Failure::new(-1, "The pool gave no answer")),
            },
        )
    }

    fn unknown(&self, error: &Malformed) -> String {
        let result = Err(Failure::new(-1, error.to_string()));
        FromPool::Reply(Reply { id: None, result }).encode()
    }
}

fn job(offer: &Offer<Work>) -> Job {
    let job = Arc::unwrap_or_clone(Arc::clone(&offer.work.job));
    Job { id: name(offer.connection, &job.id), ..job }
}

fn reply(id: Id, result: Result<Value, Failure>) -> String {
    FromPool::Reply(Reply { id: Some(id), result }).encode()
}

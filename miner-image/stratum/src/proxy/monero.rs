//! Monero's dialect for engines.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Action, Frontend, name, named};
use crate::Malformed;
use crate::client::{Offer, Verdict};
use crate::message::{Failure, Id};
use crate::monero::{
    Call, FromPool, Job, KEEPALIVE, LoggedIn, NICEHASH, Reply, Request, Session, Share, Work,
};

/// State that was sent to an engine so far.
#[derive(Debug, Default)]
pub struct Monero {
    logged_in: bool,
}

/// Name of every session, since a connection has only one.
const SESSION: &str = "loopback";

impl Frontend for Monero {
    type Session = Session;

    fn receive(
        &mut self,
        line: &[u8],
        offer: &Offer<Work>,
    ) -> Result<Vec<Action<Share>>, Malformed> {
        let Request { id, call } = Request::decode(line)?;
        let result = match call {
            Call::Login { .. } => {
                self.logged_in = true;
                let nicehash = offer.work.keeps_byte.then_some(NICEHASH);
                let extensions = [KEEPALIVE].into_iter().chain(nicehash);
                let extensions = extensions.map(str::to_owned).collect();
                Ok(LoggedIn { session: SESSION.into(), job: job(offer), extensions }.encode())
            }
            Call::KeepAlive { .. } => Ok(json!({"status": "KEEPALIVED"})),
            Call::Submit(_) if !self.logged_in => Err(Failure::new(-1, "Unauthenticated")),
            Call::Submit(submit) => match named(&submit.job) {
                Some((connection, job)) => {
                    let share = Share { job, nonce: submit.nonce, result: submit.result };
                    return Ok(vec![Action::Submit { id, connection, share }]);
                }
                None => Err(Failure::new(-1, "Invalid job id")),
            },
        };
        Ok(vec![Action::Send(reply(id, result))])
    }

    fn offer(&mut self, offer: &Offer<Work>) -> Option<Vec<String>> {
        Some(if self.logged_in { vec![FromPool::Job(job(offer)).encode()] } else { vec![] })
    }

    fn verdict(&self, id: Id, verdict: Verdict) -> String {
        reply(
            id,
            match verdict {
                Verdict::Accepted => Ok(json!({"status": "OK"})),
                Verdict::Rejected(failure) => Err(failure),
                Verdict::Stale => Err(Failure::new(-1, "Block expired")),
                Verdict::Lost => Err(Failure::new(-1, "The pool did not answer")),
            },
        )
    }

    fn error(&self, id: Option<Id>, error: &Malformed) -> String {
        let result = Err(Failure::new(-1, error.to_string()));
        FromPool::Reply(Reply { id, result }).encode()
    }
}

fn job(offer: &Offer<Work>) -> Job {
    let job = Arc::unwrap_or_clone(Arc::clone(&offer.work.job));
    Job { id: name(offer.connection, &job.id), ..job }
}

fn reply(id: Id, result: Result<Value, Failure>) -> String {
    FromPool::Reply(Reply { id: Some(id), result }).encode()
}

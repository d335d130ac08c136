//! Monero's dialect on the pool's side.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::node::judged;
use super::{Answer, Event, MoneroNode};
use crate::Failure;
use crate::monero::{Call, FromPool, LoggedIn, Reply, Request, Submit};
use crate::v1::Redirect;

/// Time between two tries to get a job from a node that has only just come back.
const RETRY: Duration = Duration::from_millis(200);

/// A miner's connection.
pub(super) struct Session<N> {
    node: Arc<N>,
    number: u32,
    user: Option<String>,
    /// Job and nonce of accepted shares, so that none counts twice.
    accepted: HashSet<(u64, [u8; 4])>,
}

impl<N: MoneroNode> Session<N> {
    pub(super) fn new(node: Arc<N>, number: u32) -> Self {
        Self { node, number, user: None, accepted: HashSet::new() }
    }

    fn name(&self) -> String {
        format!("{:08x}", self.number)
    }

    async fn login(&mut self, user: String) -> Result<Value, Failure> {
        if !self.node.admits(&user) {
            return Err(Failure::new(-1, "Invalid address used for login"));
        }
        let job = self.node.new_job(self.number).await?;
        self.node.record(Some(&user), Event::LoggedIn(user.clone()));
        self.user = Some(user);
        let extensions = vec!["keepalive".into()];
        Ok(LoggedIn { session: self.name(), job, extensions }.encode())
    }

    async fn judge(&mut self, submit: &Submit) -> Result<u64, Failure> {
        let failure = |code, message: &str| Err(Failure::new(code, message));
        let Some(user) = self.user.as_ref().filter(|_| submit.session == self.name()) else {
            return failure(Failure::UNAUTHORIZED, "Unauthenticated");
        };
        let number = submit.job.parse().unwrap_or_default();
        let Some(job) = self.node.job(self.number, number) else {
            return failure(Failure::STALE, "Job not found");
        };
        // The cheap checks first: a hash takes a node some milliseconds.
        if !job.target().reached_by(&submit.result) {
            return failure(Failure::LOW_DIFFICULTY, "Low difficulty share");
        }
        if self.accepted.contains(&(number, submit.nonce)) {
            return failure(Failure::DUPLICATE, "Duplicate share");
        }
        if self.node.hash(number, &job.with_nonce(submit.nonce)).await? != submit.result {
            return failure(Failure::OTHER, "Invalid result");
        }
        self.accepted.insert((number, submit.nonce));
        self.node.accept(user, number, submit).await?;
        Ok(number)
    }
}

impl<N: MoneroNode> super::Session for Session<N> {
    async fn receive(&mut self, line: &[u8]) -> Answer {
        let reply = |id, result| FromPool::Reply(Reply { id, result }).encode();
        let Request { id, call } = match Request::decode(line) {
            Ok(request) => request,
            Err(error) => {
                let failure = Failure::new(Failure::OTHER, error.to_string());
                return Answer::Lines(vec![reply(None, Err(failure))]);
            }
        };
        let result = match call {
            Call::Login { login, .. } => self.login(login).await,
            Call::KeepAlive { .. } => Ok(json!({"status": "KEEPALIVED"})),
            Call::Submit(submit) => {
                let verdict = self.judge(&submit).await;
                self.node.record(self.user.as_deref(), judged(&verdict));
                return Answer::Verdict(reply(Some(id), verdict.map(|_| json!({"status": "OK"}))));
            }
        };
        Answer::Lines(vec![reply(Some(id), result)])
    }

    async fn renew(&mut self) -> Vec<String> {
        if self.user.is_none() {
            return vec![];
        }
        loop {
            match self.node.new_job(self.number).await {
                Ok(job) => return vec![FromPool::Job(job).encode()],
                // Its return is announced.
                Err(_) if self.node.is_away() => return vec![],
                // A node that has just started serves templates later than it answers.
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    fn redirect(&self, _: Redirect) -> Option<String> {
        None
    }
}

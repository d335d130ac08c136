//! What the pool says to one miner.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::Arc;

use daylight_stratum::monero::{Call, FromPool, Job, LoggedIn, Reply, Request, Submit};
use daylight_stratum::{Failure, Target};
use serde_json::json;

use super::node::{Node, POLL, Template};
use crate::bridge::books::{Block, Ledger};
use crate::bridge::pool;

/// A miner's connection.
pub(super) struct Desk {
    node: Arc<Node>,
    ledger: Ledger,
    difficulty: NonZeroU64,
    number: u32,
    user: Option<String>,
    jobs: u32,
    /// The newest job, and the nonces that were accepted for it.
    work: Option<(Job, Template)>,
    seen: HashSet<[u8; 4]>,
}

impl Desk {
    pub(super) fn new(
        node: Arc<Node>,
        ledger: Ledger,
        difficulty: NonZeroU64,
        number: u32,
    ) -> Self {
        let seen = HashSet::new();
        Self { node, ledger, difficulty, number, user: None, jobs: 0, work: None, seen }
    }

    fn session(&self) -> String {
        format!("{:08x}", self.number)
    }

    /// A new job of the miner's own.
    async fn job(&mut self) -> crate::Result<Job> {
        self.jobs += 1;
        let mut extra_nonce = [0; 8];
        extra_nonce[..4].copy_from_slice(&self.number.to_be_bytes());
        extra_nonce[4..].copy_from_slice(&self.jobs.to_be_bytes());
        let template = self.node.template(extra_nonce).await?;
        let job = Job {
            id: self.jobs.to_string(),
            blob: template.hashed.clone(),
            target: u64::MAX / self.difficulty.get().min(template.difficulty),
            algorithm: Some("rx/0".into()),
            height: Some(template.height),
            seed: Some(template.seed),
        };
        self.work = Some((job.clone(), template));
        self.seen.clear();
        Ok(job)
    }

    async fn login(&mut self, user: String) -> Result<serde_json::Value, Failure> {
        let job = self.job().await.map_err(|error| Failure::new(-1, error.to_string()))?;
        self.user = Some(user);
        let extensions = vec!["keepalive".into()];
        Ok(LoggedIn { session: self.session(), job, extensions }.encode())
    }

    async fn judge(&mut self, submit: &Submit) -> Result<(), Failure> {
        let Some(user) = self.user.clone().filter(|_| submit.session == self.session()) else {
            return Err(Failure::new(Failure::UNAUTHORIZED, "Unauthenticated"));
        };
        let judged = self.prove(submit, &user).await;
        self.ledger.share(&user, judged.is_ok());
        judged
    }

    async fn prove(&mut self, submit: &Submit, user: &str) -> Result<(), Failure> {
        let failure = |code, words: &str| Err(Failure::new(code, words));
        let work = self.work.as_ref().filter(|(job, _)| job.id == submit.job);
        let Some((job, template)) = work.filter(|(_, template)| self.node.is_next(template)) else {
            return failure(Failure::STALE, "Job not found");
        };
        // What the miner says costs nothing to look at; the node's hash costs a while.
        if !job.target().reached_by(&submit.result) {
            return failure(Failure::LOW_DIFFICULTY, "Low difficulty share");
        }
        if self.seen.contains(&submit.nonce) {
            return failure(Failure::DUPLICATE, "Duplicate share");
        }
        let blob = job.with_nonce(submit.nonce);
        let refused = |error: crate::Error| Failure::new(Failure::OTHER, error.to_string());
        if self.node.hash(template, &blob).await.map_err(refused)? != submit.result {
            return failure(Failure::OTHER, "Invalid result");
        }
        self.seen.insert(submit.nonce);
        // The node has the last word; where this is off by one hash in 2⁶⁴, it refuses.
        if Target::from_upper(u64::MAX / template.difficulty).reached_by(&submit.result) {
            let hash = self.node.submit(template, submit.nonce).await?;
            self.ledger.block(Block { height: template.height, hash, user: user.into() });
        }
        Ok(())
    }
}

impl pool::Desk for Desk {
    async fn hear(&mut self, line: &[u8]) -> Vec<String> {
        let (id, result) = match Request::decode(line) {
            Err(error) => (None, Err(Failure::new(Failure::OTHER, error.to_string()))),
            Ok(Request { id, call }) => {
                let result = match call {
                    Call::Login { login, .. } => self.login(login).await,
                    Call::KeepAlive { .. } => Ok(json!({"status": "KEEPALIVED"})),
                    Call::Submit(submit) => {
                        self.judge(&submit).await.map(|()| json!({"status": "OK"}))
                    }
                };
                (Some(id), result)
            }
        };
        vec![FromPool::Reply(Reply { id, result }).encode()]
    }

    async fn renew(&mut self) -> Vec<String> {
        if self.user.is_none() {
            return vec![];
        }
        loop {
            match self.job().await {
                Ok(job) => return vec![FromPool::Job(job).encode()],
                // A node that is away comes back, which is news again.
                Err(_) if self.node.is_away() => return vec![],
                // One that has just come may answer this only after a while.
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

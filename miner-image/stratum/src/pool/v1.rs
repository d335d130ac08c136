//! Stratum v1 on the pool's side.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::node::judged;
use super::{Answer, Event, V1Job, V1Node, V1Share};
use crate::sha256d::sha256d;
use crate::v1::{
    Call, Configured, FromPool, Job, Notice, Redirect, Reply, Request, Share, Submit, Subscribed,
    Work,
};
use crate::{Difficulty, Failure};

/// The bits of the version that BIP 320 leaves to miners.
const VERSION_MASK: u32 = 0x1fff_e000;

/// Bytes of the coinbase that are the pool's.
pub const EXTRANONCE1: u8 = 4;
/// Bytes of the coinbase that are the miner's.
pub const EXTRANONCE2: u8 = 4;

/// A miner's connection.
pub(super) struct Session<N> {
    node: Arc<N>,
    /// The connection's number, so that no two miners search the same space.
    extranonce1: [u8; EXTRANONCE1 as usize],
    version_mask: u32,
    subscribed: bool,
    users: BTreeSet<String>,
    /// The difficulty that was sent last.
    difficulty: Option<Difficulty>,
    /// The block that the last job sent is built on.
    previous: Option<[u8; 32]>,
    /// Headers of accepted shares, so that none counts twice. Cleared with each new block.
    accepted: HashSet<[u8; 80]>,
}

impl<N: V1Node> Session<N> {
    pub(super) fn new(node: Arc<N>, number: u32) -> Self {
        Self {
            node,
            extranonce1: number.to_be_bytes(),
            version_mask: 0,
            subscribed: false,
            users: BTreeSet::new(),
            difficulty: None,
            previous: None,
            accepted: HashSet::new(),
        }
    }

    fn newest(&mut self) -> Vec<String> {
        if !self.subscribed || self.users.is_empty() {
            return vec![];
        }
        let Some(V1Job { number, job, difficulty, .. }) = self.node.newest() else {
            return vec![];
        };
        let mut notices = vec![];
        if self.difficulty.replace(difficulty) != Some(difficulty) {
            notices.push(Notice::SetDifficulty(difficulty));
        }
        // All jobs on the same block are valid at the same time.
        let clean = self.previous.replace(job.previous) != Some(job.previous);
        if clean {
            self.accepted.clear();
        }
        notices.push(Notice::Job(Job { id: number.to_string(), clean, ..job }));
        notices.into_iter().map(|notice| FromPool::Notice(notice).encode()).collect()
    }

    async fn judge(&mut self, submit: &Submit) -> Result<u64, Failure> {
        let failure = |code, message: &str| Err(Failure::new(code, message));
        if !self.users.contains(&submit.user) {
            return failure(Failure::UNAUTHORIZED, "Unauthorized worker");
        }
        let job = submit.job.parse().ok().and_then(|number| self.node.job(number));
        let Some(V1Job { number, job, difficulty, times }) = job else {
            return failure(Failure::STALE, "Job not found");
        };
        if submit.extranonce2.len() != usize::from(EXTRANONCE2) {
            return failure(Failure::OTHER, "Incorrect size of extranonce2");
        }
        if submit.version_bits.is_some_and(|bits| bits & !self.version_mask != 0) {
            return failure(Failure::OTHER, "Version bits outside of the mask");
        }
        if !times.contains(&submit.time) {
            return failure(Failure::OTHER, "Time out of range");
        }
        let header = self.header(job, difficulty, submit);
        let hash = sha256d(&header);
        if !difficulty.target().reached_by(&hash) {
            return failure(Failure::LOW_DIFFICULTY, "Low difficulty share");
        }
        if !self.accepted.insert(header) {
            return failure(Failure::DUPLICATE, "Duplicate share");
        }
        let extranonces = [&self.extranonce1[..], &submit.extranonce2].concat();
        let (header, hash, extranonces) = (&header, &hash, &*extranonces);
        self.node.accept(V1Share { user: &submit.user, number, header, hash, extranonces }).await?;
        Ok(number)
    }

    fn header(&self, job: Job, difficulty: Difficulty, submit: &Submit) -> [u8; 80] {
        let work = Work {
            job: Arc::new(job),
            extranonce1: self.extranonce1.to_vec(),
            extranonce2_size: EXTRANONCE2,
            difficulty,
            version_mask: self.version_mask,
        };
        work.header(&Share {
            job: submit.job.clone(),
            extranonce2: submit.extranonce2.clone(),
            time: submit.time,
            nonce: submit.nonce,
            version_bits: submit.version_bits,
        })
    }
}

impl<N: V1Node> super::Session for Session<N> {
    async fn receive(&mut self, line: &[u8]) -> Answer {
        let reply = |id, result| FromPool::Reply(Reply { id, result }).encode();
        let Request { id, call } = match Request::decode(line) {
            Ok(request) => request,
            Err(error) => {
                let failure = Failure::new(Failure::OTHER, error.to_string());
                return Answer::Lines(vec![reply(None, Err(failure))]);
            }
        };
        let id = Some(id);
        let mut jobs = vec![];
        let result = match call {
            Call::Configure { extensions, version_rolling } => {
                let supports = |extension| extensions.iter().any(|name| name == extension);
                self.version_mask = match supports("version-rolling") {
                    true => version_rolling.map_or(VERSION_MASK, |bits| bits.mask & VERSION_MASK),
                    false => 0,
                };
                let version_mask = Some(self.version_mask).filter(|mask| *mask > 0);
                let extranonce = supports("subscribe-extranonce");
                Ok(Configured { version_mask, extranonce }.encode())
            }
            Call::Subscribe { .. } => {
                self.subscribed = true;
                let subscribed = Subscribed {
                    session: hex::encode(self.extranonce1),
                    extranonce1: self.extranonce1.to_vec(),
                    extranonce2_size: EXTRANONCE2,
                };
                Ok(subscribed.encode())
            }
            Call::Authorize { user, .. } if self.node.admits(&user) => {
                self.node.record(Some(&user), Event::LoggedIn(user.clone()));
                self.users.insert(user);
                jobs = self.newest();
                Ok(true.into())
            }
            Call::Authorize { .. } => {
                Err(Failure::new(Failure::UNAUTHORIZED, "Unauthorized worker"))
            }
            Call::SubscribeExtranonce | Call::SuggestDifficulty(_) => Ok(true.into()),
            Call::Submit(submit) => {
                let verdict = self.judge(&submit).await;
                let user = self.users.get(&submit.user).map(String::as_str);
                self.node.record(user, judged(&verdict));
                return Answer::Verdict(reply(id, verdict.map(|_| true.into())));
            }
        };
        Answer::Lines([reply(id, result)].into_iter().chain(jobs).collect())
    }

    async fn renew(&mut self) -> Vec<String> {
        self.newest()
    }

    fn redirect(&self, redirect: Redirect) -> Option<String> {
        Some(FromPool::Notice(Notice::Reconnect(redirect)).encode())
    }
}

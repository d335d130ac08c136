//! What the pool says to one miner.

use std::collections::BTreeSet;
use std::sync::Arc;

use daylight_stratum::sha256d::sha256d;
use daylight_stratum::v1::{
    Call, Configured, FromPool, Job, Notice, Reply, Request, Share, Submit, Subscribed, Work,
};
use daylight_stratum::{Difficulty, Failure};

use super::node::Node;
use super::template::{EXTRANONCE1, EXTRANONCE2};
use crate::bridge::books::{Block, Ledger};
use crate::bridge::pool;

/// The bits of the version that BIP 320 leaves to miners.
const MASK: u32 = 0x1fff_e000;

/// A miner's connection.
pub(super) struct Desk {
    node: Arc<Node>,
    ledger: Ledger,
    difficulty: Difficulty,
    extranonce1: [u8; EXTRANONCE1 as usize],
    version_mask: u32,
    subscribed: bool,
    users: BTreeSet<String>,
    /// The block that the newest job told goes on from.
    told: Option<[u8; 32]>,
}

impl Desk {
    pub(super) fn new(
        node: Arc<Node>,
        ledger: Ledger,
        difficulty: Difficulty,
        number: u32,
    ) -> Self {
        Self {
            node,
            ledger,
            difficulty,
            extranonce1: number.to_be_bytes(),
            version_mask: 0,
            subscribed: false,
            users: BTreeSet::new(),
            told: None,
        }
    }

    fn work(&mut self) -> Vec<String> {
        if !self.subscribed || self.users.is_empty() {
            return vec![];
        }
        let Some(newest) = self.node.newest() else { return vec![] };
        let mut notices = vec![];
        if self.told.is_none() {
            notices.push(Notice::SetDifficulty(self.difficulty));
        }
        let previous = newest.job.previous;
        let clean = self.told.replace(previous) != Some(previous);
        notices.push(Notice::Job(Job { clean, ..newest.job.clone() }));
        notices.into_iter().map(|notice| FromPool::Notice(notice).encode()).collect()
    }

    async fn judge(&self, submit: &Submit) -> Result<(), Failure> {
        let failure = |code, words: &str| Err(Failure::new(code, words));
        if !self.users.contains(&submit.user) {
            return failure(Failure::UNAUTHORIZED, "Unauthorized worker");
        }
        let judged = self.prove(submit).await;
        self.ledger.share(&submit.user, judged.is_ok());
        judged
    }

    async fn prove(&self, submit: &Submit) -> Result<(), Failure> {
        let failure = |code, words: &str| Err(Failure::new(code, words));
        let Some(template) = self.node.job(&submit.job) else {
            return failure(Failure::STALE, "Job not found");
        };
        if submit.extranonce2.len() != usize::from(EXTRANONCE2) {
            return failure(Failure::OTHER, "Incorrect size of extranonce2");
        }
        if submit.version_bits.is_some_and(|bits| bits & !self.version_mask != 0) {
            return failure(Failure::OTHER, "Version bits outside of the mask");
        }
        if !template.times.contains(&submit.time) {
            return failure(Failure::OTHER, "Time out of range");
        }
        let header = self.header(&template.job, submit);
        let hash = sha256d(&header);
        if !self.difficulty.target().reached_by(&hash) {
            return failure(Failure::LOW_DIFFICULTY, "Low difficulty share");
        }
        if !self.node.is_new(&header) {
            return failure(Failure::DUPLICATE, "Duplicate share");
        }
        if template.target().reached_by(&hash) {
            let extranonces = [&self.extranonce1[..], &submit.extranonce2].concat();
            let hash = self.node.submit(&template, &header, &extranonces).await?;
            let user = submit.user.clone();
            self.ledger.block(Block { height: template.height, hash, user });
        }
        Ok(())
    }

    fn header(&self, job: &Job, submit: &Submit) -> [u8; 80] {
        let work = Work {
            job: Arc::new(job.clone()),
            extranonce1: self.extranonce1.to_vec(),
            extranonce2_size: EXTRANONCE2,
            difficulty: self.difficulty,
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

impl pool::Desk for Desk {
    async fn hear(&mut self, line: &[u8]) -> Vec<String> {
        let reply = |id, result| FromPool::Reply(Reply { id, result }).encode();
        let Request { id, call } = match Request::decode(line) {
            Ok(request) => request,
            Err(error) => {
                return vec![reply(None, Err(Failure::new(Failure::OTHER, error.to_string())))];
            }
        };
        let mut work = vec![];
        let result = match call {
            Call::Configure { extensions, version_rolling } => {
                self.version_mask = match extensions.iter().any(|name| name == "version-rolling") {
                    true => version_rolling.map_or(MASK, |wanted| wanted.mask & MASK),
                    false => 0,
                };
                let version_mask = Some(self.version_mask).filter(|mask| *mask > 0);
                Ok(Configured { version_mask, extranonce: false }.encode())
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
            Call::Authorize { user, .. } => {
                self.users.insert(user);
                work = self.work();
                Ok(true.into())
            }
            Call::SubscribeExtranonce | Call::SuggestDifficulty(_) => Ok(true.into()),
            Call::Submit(submit) => self.judge(&submit).await.map(|()| true.into()),
        };
        [reply(Some(id), result)].into_iter().chain(work).collect()
    }

    async fn renew(&mut self) -> Vec<String> {
        self.work()
    }
}

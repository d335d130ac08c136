//! What the pool knows of a miner, and what it says to it, without I/O.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Current, Dialect, Event, Floor, Misbehaviour};
use crate::sha256d::sha256d;
use crate::v1::Redirect;
use crate::{Difficulty, Failure, Malformed, Target, monero, v1};

/// What the pool does about what it heard.
pub(super) enum Answer {
    Say(String),
    Judge { line: String, event: Event },
    LoggedIn(String),
}

/// A miner.
pub(super) struct Miner {
    floor: Arc<Floor>,
    number: u64,
    logged_in: bool,
    /// The difficulty that each job went out with.
    given: HashMap<u64, Difficulty>,
    told: Option<Difficulty>,
}

/// The bits of the version that may be rolled.
const MASK: u32 = 0x1fff_e000;

/// How long a miner's part of the coinbase is.
const EXTRANONCE2: u8 = 4;

impl Miner {
    pub(super) fn new(floor: Arc<Floor>, number: u64) -> Self {
        Self { floor, number, logged_in: false, given: HashMap::new(), told: None }
    }

    pub(super) fn hear(&mut self, line: &[u8]) -> Vec<Answer> {
        let answers = match self.floor.setup.dialect {
            Dialect::V1 => v1::Request::decode(line).map(|request| self.v1(request)),
            Dialect::Monero(proof) => {
                monero::Request::decode(line).map(|request| self.monero(request, proof))
            }
        };
        answers.unwrap_or_else(|error: Malformed| {
            let result = Err(Failure::new(Failure::OTHER, error.to_string()));
            vec![Answer::Say(v1::FromPool::Reply(v1::Reply { id: None, result }).encode())]
        })
    }

    /// The newest job.
    pub(super) fn renew(&mut self) -> Vec<Answer> {
        if !self.logged_in {
            return vec![];
        }
        let current = self.current();
        self.given.insert(current.job, current.difficulty);
        let mut notices = vec![];
        match self.floor.setup.dialect {
            Dialect::V1 => {
                if self.told.replace(current.difficulty) != Some(current.difficulty) {
                    notices.push(v1::Notice::SetDifficulty(current.difficulty));
                }
                notices.push(v1::Notice::Job(v1_job(&current)));
            }
            Dialect::Monero(_) => {
                return vec![Answer::Say(monero::FromPool::Job(self.monero_job()).encode())];
            }
        }
        let lines = notices.into_iter().map(|notice| v1::FromPool::Notice(notice).encode());
        lines.map(Answer::Say).collect()
    }

    pub(super) fn redirect(&self, redirect: Redirect) -> Vec<Answer> {
        match self.floor.setup.dialect {
            Dialect::V1 => {
                let notice = v1::Notice::Reconnect(redirect);
                vec![Answer::Say(v1::FromPool::Notice(notice).encode())]
            }
            Dialect::Monero(_) => vec![],
        }
    }

    fn current(&self) -> Current {
        self.floor.current.borrow().clone()
    }

    fn lets_in(&self, user: &str) -> bool {
        self.floor.setup.misbehaviour != Misbehaviour::RefusesLogins
            && self.floor.setup.user.as_ref().is_none_or(|wanted| wanted == user)
    }

    fn v1(&mut self, request: v1::Request) -> Vec<Answer> {
        let id = Some(request.id);
        let reply = |result| v1::FromPool::Reply(v1::Reply { id: id.clone(), result }).encode();
        match request.call {
            v1::Call::Configure { .. } => {
                let configured = v1::Configured { version_mask: Some(MASK), extranonce: true };
                vec![Answer::Say(reply(Ok(configured.encode())))]
            }
            v1::Call::Subscribe { .. } => {
                let subscribed = v1::Subscribed {
                    session: self.number.to_string(),
                    extranonce1: self.extranonce1(),
                    extranonce2_size: EXTRANONCE2,
                };
                vec![Answer::Say(reply(Ok(subscribed.encode())))]
            }
            v1::Call::Authorize { user, .. } if self.lets_in(&user) => {
                self.logged_in = true;
                let said = [Answer::Say(reply(Ok(true.into()))), Answer::LoggedIn(user)];
                said.into_iter().chain(self.renew()).collect()
            }
            v1::Call::Authorize { .. } => {
                let failure = Failure::new(Failure::UNAUTHORIZED, "Unauthorized worker");
                vec![Answer::Say(reply(Err(failure)))]
            }
            v1::Call::SubscribeExtranonce | v1::Call::SuggestDifficulty(_) => {
                vec![Answer::Say(reply(Ok(true.into())))]
            }
            v1::Call::Submit(submit) => {
                let judged = self.judge_v1(&submit);
                let line = reply(judged.clone().map(|_| true.into()));
                vec![Answer::Judge { line, event: event(judged) }]
            }
        }
    }

    fn extranonce1(&self) -> Vec<u8> {
        (self.number as u32).to_be_bytes().to_vec()
    }

    /// The share's job, if it stands up.
    fn judge_v1(&self, submit: &v1::Submit) -> Result<u64, Failure> {
        let (number, difficulty) = self.job(&submit.job)?;
        let job = v1_job(&Current { job: number, ..self.current() });
        if submit.extranonce2.len() != usize::from(EXTRANONCE2) {
            return Err(Failure::new(Failure::OTHER, "Incorrect size of extranonce2"));
        }
        if submit.version_bits.is_some_and(|bits| bits & !MASK != 0) {
            return Err(Failure::new(Failure::OTHER, "Version bits outside of the mask"));
        }
        if !(job.time..=job.time + 7200).contains(&submit.time) {
            return Err(Failure::new(Failure::OTHER, "Time out of range"));
        }
        let work = v1::Work {
            job: Arc::new(job),
            extranonce1: self.extranonce1(),
            extranonce2_size: EXTRANONCE2,
            difficulty,
            version_mask: MASK,
        };
        let header = work.header(&v1::Share {
            job: submit.job.clone(),
            extranonce2: submit.extranonce2.clone(),
            time: submit.time,
            nonce: submit.nonce,
            version_bits: submit.version_bits,
        });
        self.prove(&header, difficulty.target(), sha256d(&header)).map(|()| number)
    }

    fn monero(&mut self, request: monero::Request, proof: fn(&[u8]) -> [u8; 32]) -> Vec<Answer> {
        let id = Some(request.id);
        let reply =
            |result| monero::FromPool::Reply(monero::Reply { id: id.clone(), result }).encode();
        let status = |status: &str| serde_json::json!({"status": status});
        match request.call {
            monero::Call::Login { login, .. } if self.lets_in(&login) => {
                self.logged_in = true;
                let current = self.current();
                self.given.insert(current.job, current.difficulty);
                let logged_in = monero::LoggedIn {
                    session: self.number.to_string(),
                    job: self.monero_job(),
                    extensions: vec!["keepalive".into()],
                };
                vec![Answer::Say(reply(Ok(logged_in.encode()))), Answer::LoggedIn(login)]
            }
            monero::Call::Login { .. } => {
                vec![Answer::Say(reply(Err(Failure::new(-1, "Invalid address used for login"))))]
            }
            monero::Call::KeepAlive { .. } => vec![Answer::Say(reply(Ok(status("KEEPALIVED"))))],
            monero::Call::Submit(submit) => {
                let judged = self.judge_monero(&submit, proof);
                let line = reply(judged.clone().map(|_| status("OK")));
                vec![Answer::Judge { line, event: event(judged) }]
            }
        }
    }

    fn judge_monero(
        &self,
        submit: &monero::Submit,
        proof: fn(&[u8]) -> [u8; 32],
    ) -> Result<u64, Failure> {
        let (number, difficulty) = self.job(&submit.job)?;
        if submit.session != self.number.to_string() {
            return Err(Failure::new(Failure::UNAUTHORIZED, "Unauthenticated"));
        }
        let job = monero_job(self.number, number, difficulty, self.current().seed);
        let blob = job.with_nonce(submit.nonce);
        let hash = proof(&blob);
        if hash != submit.result {
            return Err(Failure::new(Failure::OTHER, "Invalid result"));
        }
        self.prove(&blob, job.target(), hash).map(|()| number)
    }

    fn monero_job(&self) -> monero::Job {
        let current = self.current();
        monero_job(self.number, current.job, current.difficulty, current.seed)
    }

    /// A job of which shares are taken, with the difficulty that it was given out with.
    fn job(&self, id: &str) -> Result<(u64, Difficulty), Failure> {
        if !self.logged_in {
            return Err(Failure::new(Failure::UNAUTHORIZED, "Unauthorized worker"));
        }
        let number = id.parse().ok().filter(|number| *number >= self.current().oldest);
        number
            .and_then(|number| self.given.get(&number).map(|difficulty| (number, *difficulty)))
            .ok_or_else(|| Failure::new(Failure::STALE, "Job not found"))
    }

    fn prove(&self, bytes: &[u8], target: Target, hash: [u8; 32]) -> Result<(), Failure> {
        if !target.reached_by(&hash) {
            return Err(Failure::new(Failure::LOW_DIFFICULTY, "Low difficulty share"));
        }
        match self.floor.is_new(bytes) {
            true => Ok(()),
            false => Err(Failure::new(Failure::DUPLICATE, "Duplicate share")),
        }
    }
}

fn event(judged: Result<u64, Failure>) -> Event {
    match judged {
        Ok(job) => Event::Accepted { job },
        Err(failure) => Event::Rejected(failure.code),
    }
}

/// A job by its number; its parts are made up, and the same each time.
fn v1_job(current: &Current) -> v1::Job {
    let bytes = |name: &str| sha256d(format!("{name} {}", current.job).as_bytes());
    v1::Job {
        id: current.job.to_string(),
        previous: bytes("previous"),
        coinbase1: bytes("coinbase1").to_vec(),
        coinbase2: bytes("coinbase2").to_vec(),
        branches: vec![bytes("left"), bytes("right")],
        version: 0x2000_0000,
        bits: 0x1d00_ffff,
        time: 1_700_000_000 + current.job as u32,
        clean: current.job == current.oldest,
    }
}

/// The same for Monero's dialect: each miner has a blob of its own.
fn monero_job(miner: u64, number: u64, difficulty: Difficulty, seed: [u8; 32]) -> monero::Job {
    let mut blob = sha256d(format!("{miner} {number}").as_bytes()).repeat(2);
    blob.resize(76, 0);
    blob[monero::Job::NONCE].fill(0);
    monero::Job {
        id: number.to_string(),
        blob,
        target: u64::MAX / difficulty.target().expected_hashes(),
        algorithm: Some("rx/0".into()),
        height: Some(number),
        seed: Some(seed),
    }
}

//! The miner's side of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Call, Configured, FromPool, Job, Notice, Reply, Request, Submit, Subscribed, VersionRolling,
};
use crate::Difficulty;
use crate::live_jobs::LiveJobs;
use crate::malformed::Malformed;
use crate::message::Id;
use crate::session::{AGENT, Login, Received, Submission};

/// Work: a job with everything that a header takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub job: Arc<Job>,
    /// The pool's part of the coinbase.
    pub extranonce1: Vec<u8>,
    /// Number of bytes that the miner adds to it.
    pub extranonce2_size: u8,
    pub difficulty: Difficulty,
    /// Bits of the version that may be rolled.
    pub version_mask: u32,
}

/// A share: the parts of a header that the miner has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub job: String,
    /// The miner's part of the coinbase.
    pub extranonce2: Vec<u8>,
    pub time: u32,
    pub nonce: u32,
    /// Bits of the version that were rolled; none where none may be.
    pub version_bits: Option<u32>,
}

/// The bits that BIP 320 leaves to miners.
const ROLLED: VersionRolling = VersionRolling { mask: 0x1fff_e000, min_bits: 2 };

const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;

/// A connection to a pool, see [`crate::Session`].
#[derive(Debug)]
pub struct Session {
    login: Login,
    next_id: u64,
    subscribed: Option<Subscribed>,
    authorized: bool,
    version_mask: u32,
    difficulty: Option<Difficulty>,
    job: Option<Arc<Job>>,
    /// The jobs that shares may be for, each with its difficulty.
    live: LiveJobs<Difficulty>,
}

impl crate::Session for Session {
    type Work = Work;
    type Share = Share;

    /// Pools send one each minute or so, with the newest transactions.
    const JOBS: Duration = Duration::from_mins(5);

    fn same(one: &Work, other: &Work) -> bool {
        let Work { job, extranonce1, extranonce2_size, difficulty, version_mask } = one;
        // Whether earlier jobs end with it is no part of the work.
        let job = Job { clean: other.job.clean, ..Job::clone(job) };
        job == *other.job
            && *extranonce1 == other.extranonce1
            && *extranonce2_size == other.extranonce2_size
            && *difficulty == other.difficulty
            && *version_mask == other.version_mask
    }

    fn open(login: &Login) -> (Self, Vec<String>) {
        let session = Self {
            login: login.clone(),
            next_id: AUTHORIZE + 1,
            subscribed: None,
            authorized: false,
            version_mask: 0,
            difficulty: None,
            job: None,
            live: LiveJobs::new(),
        };
        let configure = Call::Configure {
            extensions: vec!["version-rolling".into(), "subscribe-extranonce".into()],
            version_rolling: Some(ROLLED),
        };
        let subscribe = Call::Subscribe { agent: AGENT.into(), session: None };
        (session, vec![request(CONFIGURE, configure), request(SUBSCRIBE, subscribe)])
    }

    fn receive(&mut self, line: &[u8]) -> Result<Vec<Received<Work>>, Malformed> {
        Ok(match FromPool::decode(line) {
            Ok(FromPool::Notice(notice)) => self.notice(notice).into_iter().collect(),
            Ok(FromPool::Reply(reply)) => self.reply(&reply)?,
            Ok(FromPool::Asks(id, question)) => vec![Received::Send(question.answer(id))],
            // An extension that this client does not support.
            Err(Malformed::UnknownMethod(_)) => vec![],
            Err(error) => vec![Received::Unread(error)],
        })
    }

    fn submit(&mut self, share: &Share) -> Option<Submission> {
        let difficulty = self.live.get(&share.job)?;
        let hashes = difficulty.target().expected_hashes();
        let id = self.next_id;
        self.next_id += 1;
        let Share { job, extranonce2, time, nonce, version_bits } = share.clone();
        let user = self.login.user.clone();
        let submit = Submit { user, job, extranonce2, time, nonce, version_bits };
        Some(Submission { id, line: request(id, Call::Submit(submit)), hashes })
    }

    fn keep_alive(&mut self) -> Option<String> {
        None
    }
}

impl Session {
    fn notice(&mut self, notice: Notice) -> Option<Received<Work>> {
        match notice {
            Notice::Job(job) => {
                if job.clean {
                    self.live.clear();
                }
                self.job = Some(Arc::new(job));
                return self.work();
            }
            Notice::SetDifficulty(difficulty) => {
                // Counts from the next job on. A pool that sends its first difficulty behind its first job
                // means it for that job, too.
                if self.difficulty.replace(difficulty).is_none() && self.job.is_some() {
                    return self.work();
                }
            }
            Notice::SetExtranonce { extranonce1, extranonce2_size } => {
                if let Some(subscribed) = &mut self.subscribed {
                    subscribed.extranonce1 = extranonce1;
                    subscribed.extranonce2_size = extranonce2_size;
                }
            }
            Notice::SetVersionMask(mask) => self.version_mask = mask & ROLLED.mask,
            Notice::Reconnect(redirect) => return Some(Received::Moved(redirect)),
            Notice::ShowMessage(message) => return Some(Received::Message(message)),
        }
        None
    }

    fn reply(&mut self, reply: &Reply) -> Result<Vec<Received<Work>>, Malformed> {
        let Some(id) = reply.id.as_ref().and_then(Id::number) else { return Ok(vec![]) };
        Ok(match (id, &reply.result) {
            (CONFIGURE, Ok(result)) => match Configured::decode(result) {
                Ok(Configured { version_mask: Some(mask), .. }) => {
                    self.version_mask = mask & ROLLED.mask;
                    vec![]
                }
                Ok(_) => vec![],
                Err(error) => vec![Received::Unread(error)],
            },
            (CONFIGURE, Err(_)) => vec![],
            (SUBSCRIBE, Ok(result)) => {
                self.subscribed = Some(Subscribed::decode(result)?);
                let Login { user, password, .. } = self.login.clone();
                vec![Received::Send(request(AUTHORIZE, Call::Authorize { user, password }))]
            }
            (SUBSCRIBE, Err(failure)) => vec![Received::Refused(failure.clone())],
            (AUTHORIZE, _) => match reply.accepted() {
                Ok(()) => {
                    self.authorized = true;
                    [Received::LoggedIn].into_iter().chain(self.work()).collect()
                }
                Err(failure) => vec![Received::Refused(failure)],
            },
            _ => vec![Received::Judged { id, verdict: reply.accepted() }],
        })
    }

    /// Returns the newest job as work, once everything that it takes is known.
    fn work(&mut self) -> Option<Received<Work>> {
        let (Some(job), Some(subscribed), true) = (&self.job, &self.subscribed, self.authorized)
        else {
            return None;
        };
        let difficulty = self.difficulty.unwrap_or(Difficulty::ONE);
        self.live.insert(job.id.clone(), difficulty);
        let work = Work {
            job: Arc::clone(job),
            extranonce1: subscribed.extranonce1.clone(),
            extranonce2_size: subscribed.extranonce2_size,
            difficulty,
            version_mask: self.version_mask,
        };
        Some(Received::Work { work, clean: job.clean })
    }
}

fn request(id: u64, call: Call) -> String {
    Request { id: Id::Number(id), call }.encode()
}

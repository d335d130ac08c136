//! The miner's side of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::{Call, FromPool, Job, LoggedIn, Reply, Request, Submit};
use crate::malformed::Malformed;
use crate::message::Id;
use crate::session::{AGENT, Login, Received, Submission};

/// Work: a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub job: Arc<Job>,
    /// Whether the nonce's last byte, as it is in the blob, is the pool's: it distinguishes the miners
    /// behind one connection of a proxy, as `NiceHash` does.
    pub keeps_byte: bool,
}

impl Work {
    /// Returns the nonce's last byte, if it is the pool's.
    pub fn kept_byte(&self) -> Option<u8> {
        self.keeps_byte.then(|| self.job.blob[Job::NONCE.end - 1])
    }
}

/// A share: a nonce with its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub job: String,
    pub nonce: [u8; 4],
    pub result: [u8; 32],
}

/// Jobs of one height that shares may be for. One more counts as a new height, so that a pool cannot
/// make the session grow without end.
const JOBS: usize = 64;

/// The extension by which a pool takes keep-alive messages.
pub(crate) const KEEPALIVE: &str = "keepalive";

/// The extension by which a pool keeps a byte of the nonce.
pub(crate) const NICEHASH: &str = "nicehash";

const LOGIN: u64 = 1;
const KEEP_ALIVE: u64 = 2;

/// A connection to a pool, see [`crate::Session`].
#[derive(Debug)]
pub struct Session {
    next_id: u64,
    name: Option<String>,
    /// Whether the pool said that it knows keep-alive messages. Others may count one as a fault.
    keeps_alive: bool,
    /// Whether the pool said that a byte of the nonce is its own.
    keeps_byte: bool,
    /// The jobs that shares may be for, the newest last.
    live: Vec<Arc<Job>>,
}

impl crate::Session for Session {
    type Work = Work;
    type Share = Share;

    /// Pools send one for each block, every two minutes on average: in one of 3,000 cases no block is
    /// found for so long.
    const JOBS: Duration = Duration::from_mins(16);

    fn same(one: &Work, other: &Work) -> bool {
        one == other
    }

    fn open(login: &Login) -> (Self, Vec<String>) {
        let call = Call::Login {
            login: login.user.clone(),
            pass: login.password.clone(),
            agent: AGENT.into(),
            rigid: login.worker.clone(),
            algorithms: login.algorithms.clone(),
        };
        let session = Self {
            next_id: KEEP_ALIVE + 1,
            name: None,
            keeps_alive: false,
            keeps_byte: false,
            live: vec![],
        };
        (session, vec![request(LOGIN, call)])
    }

    fn receive(&mut self, line: &[u8]) -> Result<Vec<Received<Work>>, Malformed> {
        match FromPool::decode(line) {
            Ok(FromPool::Job(job)) if self.name.is_some() => Ok(vec![self.work(job)]),
            // Without a session no share could be submitted for it, and the login's reply has a job.
            Ok(FromPool::Job(_)) | Err(Malformed::UnknownMethod(_)) => Ok(vec![]),
            Ok(FromPool::Reply(reply)) => self.reply(&reply),
            Err(error) => Ok(vec![Received::Unread(error)]),
        }
    }

    fn submit(&mut self, share: &Share) -> Option<Submission> {
        let job = self.live.iter().rfind(|job| job.id == share.job)?;
        let hashes = job.target().expected_hashes();
        let id = self.next_id;
        self.next_id += 1;
        let Share { job, nonce, result } = share.clone();
        let submit = Submit { session: self.name.clone()?, job, nonce, result };
        Some(Submission { id, line: request(id, Call::Submit(submit)), hashes })
    }

    fn keep_alive(&mut self) -> Option<String> {
        let session = self.name.clone().filter(|_| self.keeps_alive)?;
        Some(request(KEEP_ALIVE, Call::KeepAlive { session }))
    }
}

impl Session {
    fn reply(&mut self, reply: &Reply) -> Result<Vec<Received<Work>>, Malformed> {
        let Some(id) = reply.id.as_ref().and_then(Id::number) else { return Ok(vec![]) };
        Ok(match (id, &reply.result) {
            (LOGIN, Ok(result)) => {
                let LoggedIn { session, job, extensions } = LoggedIn::decode(result)?;
                self.name = Some(session);
                let has = |extension| extensions.iter().any(|name| name == extension);
                (self.keeps_alive, self.keeps_byte) = (has(KEEPALIVE), has(NICEHASH));
                vec![Received::LoggedIn, self.work(job)]
            }
            (LOGIN, Err(failure)) => vec![Received::Refused(failure.clone())],
            (KEEP_ALIVE, _) => vec![],
            _ => vec![Received::Judged { id, verdict: reply.accepted() }],
        })
    }

    /// Replaces the job before. Pools still accept shares for that one while the height is the same.
    fn work(&mut self, job: Job) -> Received<Work> {
        let clean = self.live.last().is_none_or(|last| {
            job.height.is_none() || last.height != job.height || self.live.len() == JOBS
        });
        if clean {
            self.live.clear();
        }
        let job = Arc::new(job);
        self.live.push(Arc::clone(&job));
        // Pools that do not say so leave it at zero otherwise.
        let keeps_byte = self.keeps_byte || job.blob[Job::NONCE.end - 1] != 0;
        Received::Work { work: Work { job, keeps_byte }, clean }
    }
}

fn request(id: u64, call: Call) -> String {
    Request { id: Id::Number(id), call }.encode()
}

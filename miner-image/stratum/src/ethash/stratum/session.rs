//! The miner's side of a connection.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::{Call, FromPool, Request, Submit, Subscribed};
use crate::ethash::{Job, Limit, Share, Work};
use crate::live_jobs::LiveJobs;
use crate::malformed::Malformed;
use crate::message::Id;
use crate::session::{AGENT, Login, Received, Submission};
use crate::v1::{Notice, Reply};
use crate::{Difficulty, v1};

/// Difference between the two dialects, as far as their messages do not show it.
pub trait Variant: Send + 'static {
    /// The protocol that a miner asks for. One that does is sent changes of the extranonce, too.
    const VERSION: Option<&'static str>;

    /// Time in which a pool gives a new job.
    const JOBS: Duration;
}

/// EthereumStratum/1.0.0:
/// <https://github.com/nicehash/Specifications/blob/master/EthereumStratum_NiceHash_v1.0.0.txt>.
#[derive(Debug)]
pub enum EthereumStratum {}

impl Variant for EthereumStratum {
    const VERSION: Option<&'static str> = Some("EthereumStratum/1.0.0");
    /// Chains with Ethash have a block each 13 s or so.
    const JOBS: Duration = Duration::from_mins(5);
}

/// Ravencoin's Stratum, for `KawPow`.
#[derive(Debug)]
pub enum Kawpow {}

impl Variant for Kawpow {
    const VERSION: Option<&'static str> = None;
    /// Ravencoin has a block each minute on average: in one of three million cases none is found for so
    /// long.
    const JOBS: Duration = Duration::from_mins(15);
}

const SUBSCRIBE: u64 = 1;
const AUTHORIZE: u64 = 2;
const SUBSCRIBE_EXTRANONCE: u64 = 3;

/// A connection to a pool, see [`crate::Session`].
#[derive(Debug)]
pub struct Session<V> {
    login: Login,
    next_id: u64,
    /// The first bytes of the nonce, once the pool has accepted the subscription.
    extranonce: Option<Vec<u8>>,
    authorized: bool,
    /// What the pool set last, apart from the targets in jobs.
    limit: Option<Limit>,
    job: Option<Arc<Job>>,
    /// The jobs that shares may be for.
    live: LiveJobs<Live>,
    variant: PhantomData<fn() -> V>,
}

/// What a share for a job needs.
#[derive(Debug)]
struct Live {
    job: Arc<Job>,
    hashes: u64,
}

impl<V: Variant> crate::Session for Session<V> {
    type Work = Work;
    type Share = Share;

    const JOBS: Duration = V::JOBS;

    fn same(one: &Work, other: &Work) -> bool {
        one.same(other)
    }

    fn open(login: &Login) -> (Self, Vec<String>) {
        let session = Self {
            login: login.clone(),
            next_id: SUBSCRIBE_EXTRANONCE + 1,
            extranonce: None,
            authorized: false,
            limit: None,
            job: None,
            live: LiveJobs::new(),
            variant: PhantomData,
        };
        let version = V::VERSION.map(str::to_owned);
        (session, vec![request(SUBSCRIBE, Call::Subscribe { agent: AGENT.into(), version })])
    }

    fn receive(&mut self, line: &[u8]) -> Result<Vec<Received<Work>>, Malformed> {
        Ok(match FromPool::decode(line) {
            Ok(FromPool::Job(job)) => {
                if job.clean {
                    self.live.clear();
                }
                self.job = Some(Arc::new(job));
                self.work().into_iter().collect()
            }
            Ok(FromPool::SetTarget(target)) => self.set(Limit::Target(target)),
            Ok(FromPool::SetExtranonce(extranonce)) => {
                if self.extranonce.is_some() {
                    self.extranonce = Some(extranonce);
                }
                vec![]
            }
            Ok(FromPool::V1(message)) => self.common(message)?,
            // An extension that this client does not support.
            Err(Malformed::UnknownMethod(_)) => vec![],
            Err(error) => vec![Received::Unread(error)],
        })
    }

    fn submit(&mut self, share: &Share) -> Option<Submission> {
        let Live { job, hashes } = self.live.get(&share.job)?;
        let (header, hashes) = (job.header, *hashes);
        // The layout of a share is that of its job.
        let solution = job.target.and(share.mix).map(|mix| (header, mix));
        let id = self.next_id;
        self.next_id += 1;
        let (user, job, nonce) = (self.login.user.clone(), share.job.clone(), share.nonce.clone());
        let submit = Submit { user, job, nonce, solution };
        Some(Submission { id, line: request(id, Call::Submit(submit)), hashes })
    }

    fn keep_alive(&mut self) -> Option<String> {
        None
    }
}

impl<V: Variant> Session<V> {
    /// Handles what is the same in Stratum v1.
    fn common(&mut self, message: v1::FromPool) -> Result<Vec<Received<Work>>, Malformed> {
        Ok(match message {
            v1::FromPool::Reply(reply) => self.reply(&reply)?,
            v1::FromPool::Asks(id, question) => vec![Received::Send(question.answer(id))],
            v1::FromPool::Notice(notice) => match notice {
                Notice::SetDifficulty(difficulty) => self.set(Limit::Difficulty(difficulty)),
                Notice::Reconnect(redirect) => vec![Received::Moved(redirect)],
                Notice::ShowMessage(message) => vec![Received::Message(message)],
                // The first two have a layout of their own here, and the last has no meaning.
                Notice::Job(_) | Notice::SetExtranonce { .. } | Notice::SetVersionMask(_) => vec![],
            },
        })
    }

    fn reply(&mut self, reply: &Reply) -> Result<Vec<Received<Work>>, Malformed> {
        let Some(id) = reply.id.as_ref().and_then(Id::number) else { return Ok(vec![]) };
        Ok(match (id, &reply.result) {
            (SUBSCRIBE, Ok(result)) => {
                self.extranonce = Some(Subscribed::decode(result)?.extranonce);
                let Login { user, password, .. } = self.login.clone();
                let authorize = Call::V1(v1::Call::Authorize { user, password });
                let mut lines = vec![Received::Send(request(AUTHORIZE, authorize))];
                if V::VERSION.is_some() {
                    let call = Call::V1(v1::Call::SubscribeExtranonce);
                    lines.push(Received::Send(request(SUBSCRIBE_EXTRANONCE, call)));
                }
                lines
            }
            (SUBSCRIBE, Err(failure)) => vec![Received::Refused(failure.clone())],
            (AUTHORIZE, _) => match reply.accepted() {
                Ok(()) => {
                    self.authorized = true;
                    [Received::LoggedIn].into_iter().chain(self.work()).collect()
                }
                Err(failure) => vec![Received::Refused(failure)],
            },
            // A pool without the extension never sends one.
            (SUBSCRIBE_EXTRANONCE, _) => vec![],
            _ => vec![Received::Judged { id, verdict: reply.accepted() }],
        })
    }

    /// Sets what shares have to meet from the next job on. A pool that sends its first limit behind its
    /// first job means it for that job, too.
    fn set(&mut self, limit: Limit) -> Vec<Received<Work>> {
        let first = self.limit.replace(limit).is_none();
        let lacks_limit = self.job.as_ref().is_some_and(|job| job.target.is_none());
        if first && lacks_limit { self.work().into_iter().collect() } else { vec![] }
    }

    /// Returns the newest job as work, once everything that it takes is known.
    fn work(&mut self) -> Option<Received<Work>> {
        let (Some(job), Some(extranonce), true) = (&self.job, &self.extranonce, self.authorized)
        else {
            return None;
        };
        let limit = job.target.map(Limit::Target).or(self.limit);
        let limit = limit.unwrap_or(Limit::Difficulty(Difficulty::ONE));
        let live = Live { job: Arc::clone(job), hashes: limit.expected_hashes() };
        self.live.insert(job.id.clone(), live);
        let work = Work { job: Arc::clone(job), extranonce: extranonce.clone(), limit };
        Some(Received::Work { work, clean: job.clean })
    }
}

fn request(id: u64, call: Call) -> String {
    Request { id: Id::Number(id), call }.encode()
}

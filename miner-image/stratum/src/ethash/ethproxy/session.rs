//! The miner's side of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::{Call, FromPool, Request, Submit};
use crate::Difficulty;
use crate::ethash::{Job, Limit, Share, Work};
use crate::live_jobs::LiveJobs;
use crate::malformed::Malformed;
use crate::message::Id;
use crate::session::{Login, Received, Submission};
use crate::v1::Reply;

const LOGIN: u64 = 1;
const GET_WORK: u64 = 2;
/// Pools push jobs with small numbers of their own, such as 0 and 6.
const FIRST_SHARE: u64 = 16;

/// A connection to a pool, see [`crate::Session`].
#[derive(Debug)]
pub struct Session {
    worker: Option<String>,
    next_id: u64,
    logged_in: bool,
    job: Option<Arc<Job>>,
    /// The jobs that shares may be for.
    live: LiveJobs<Arc<Job>>,
}

impl crate::Session for Session {
    type Work = Work;
    type Share = Share;

    /// Chains with Ethash have a block each 13 s or so.
    const JOBS: Duration = Duration::from_mins(5);

    fn same(one: &Work, other: &Work) -> bool {
        one.same(other)
    }

    fn open(login: &Login) -> (Self, Vec<String>) {
        let session = Self {
            worker: login.worker.clone(),
            next_id: FIRST_SHARE,
            logged_in: false,
            job: None,
            live: LiveJobs::new(),
        };
        let Login { user, password, .. } = login.clone();
        let line = session.request(LOGIN, Call::Login { user, password });
        (session, vec![line])
    }

    fn receive(&mut self, line: &[u8]) -> Result<Vec<Received<Work>>, Malformed> {
        Ok(match FromPool::decode(line) {
            Ok(FromPool::Job(_, job)) => {
                self.job = Some(Arc::new(job));
                self.work().into_iter().collect()
            }
            Ok(FromPool::Reply(reply)) => self.reply(&reply),
            // An extension that this client does not support.
            Err(Malformed::UnknownMethod(_)) => vec![],
            Err(error) => vec![Received::Unread(error)],
        })
    }

    fn submit(&mut self, share: &Share) -> Option<Submission> {
        let job = self.live.get(&share.job)?;
        let (header, hashes) = (job.header, limit(job).expected_hashes());
        let (nonce, mix) = (share.nonce.as_slice().try_into().ok()?, share.mix?);
        let id = self.next_id;
        self.next_id += 1;
        let line = self.request(id, Call::Submit(Submit { nonce, header, mix }));
        Some(Submission { id, line, hashes })
    }

    /// Asks for the newest job: it may be one whose push was lost, and otherwise is no news.
    fn keep_alive(&mut self) -> Option<String> {
        self.logged_in.then(|| self.request(GET_WORK, Call::GetWork))
    }
}

impl Session {
    fn reply(&mut self, reply: &Reply) -> Vec<Received<Work>> {
        let Some(id) = reply.id.as_ref().and_then(Id::number) else { return vec![] };
        match id {
            LOGIN => match reply.accepted() {
                Ok(()) => {
                    self.logged_in = true;
                    let get_work = Received::Send(self.request(GET_WORK, Call::GetWork));
                    [get_work, Received::LoggedIn].into_iter().chain(self.work()).collect()
                }
                Err(failure) => vec![Received::Refused(failure)],
            },
            // A pool without work pushes it later.
            GET_WORK => vec![],
            _ => vec![Received::Judged { id, verdict: reply.accepted() }],
        }
    }

    /// Returns the newest job as work, once the pool has accepted the login.
    fn work(&mut self) -> Option<Received<Work>> {
        let job = Arc::clone(self.job.as_ref().filter(|_| self.logged_in)?);
        self.live.insert(job.id.clone(), Arc::clone(&job));
        let (limit, clean) = (limit(&job), job.clean);
        Some(Received::Work { work: Work { job, extranonce: vec![], limit }, clean })
    }

    fn request(&self, id: u64, call: Call) -> String {
        Request { id: Id::Number(id), worker: self.worker.clone(), call }.encode()
    }
}

fn limit(job: &Job) -> Limit {
    job.target.map_or(Limit::Difficulty(Difficulty::ONE), Limit::Target)
}

//! What the pool knows of its node.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daylight_stratum::Failure;
use daylight_stratum::sha256d::sha256d;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::template::{Proposal, Template};
use crate::error::Result;
use crate::rpc::Rpc;

/// How often the node is asked for other work, and how old work gets where there is none.
const POLL: Duration = Duration::from_millis(200);
const RENEWAL: Duration = Duration::from_secs(30);
/// How many jobs for the same height are kept.
const JOBS: usize = 64;

/// The node, and the work for the block that comes next in its chain.
pub(super) struct Node {
    rpc: Rpc,
    script: Vec<u8>,
    shelf: Mutex<Shelf>,
    /// Held while a block is submitted, so that no two are for the same height.
    submitting: tokio::sync::Mutex<()>,
    /// The number of the newest job.
    news: watch::Sender<u64>,
}

/// The work for one height.
#[derive(Default)]
struct Shelf {
    proposal: Option<Proposal>,
    made: Option<Instant>,
    jobs: VecDeque<Arc<Template>>,
    /// The headers that were accepted, so that none counts twice.
    seen: HashSet<[u8; 80]>,
    number: u64,
}

impl Node {
    pub(super) fn new(rpc: Rpc, script: Vec<u8>) -> Self {
        Self {
            rpc,
            script,
            shelf: Mutex::default(),
            submitting: tokio::sync::Mutex::default(),
            news: watch::channel(0).0,
        }
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The newest job; none while the node is away.
    pub(super) fn newest(&self) -> Option<Arc<Template>> {
        self.shelf().jobs.back().cloned()
    }

    /// A job by its name, if it is for the block that comes next.
    pub(super) fn job(&self, id: &str) -> Option<Arc<Template>> {
        self.shelf().jobs.iter().find(|template| template.job.id == id).cloned()
    }

    /// Whether a header is there for the first time.
    pub(super) fn is_new(&self, header: &[u8; 80]) -> bool {
        self.shelf().seen.insert(*header)
    }

    /// Keeps the work up to date.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            sleep(POLL).await;
            let _submitting = self.submitting.lock().await;
            // Where the node is away there is no work, and it is asked again.
            let _ = self.refresh().await;
        }
    }

    /// Asks the node what comes next in its chain.
    pub(super) async fn refresh(&self) -> Result<()> {
        let request = json!([{"rules": ["segwit"]}]);
        let method = "getblocktemplate";
        let told = match self.rpc.read::<Proposal>(method, request).await {
            Ok(proposal) => self
                .shelf()
                .put(proposal, &self.script)
                .ok_or_else(|| self.rpc.unreadable(method, "it makes no block")),
            Err(error) => {
                self.shelf().clear();
                Err(error)
            }
        };
        let newest = told?;
        self.news.send_if_modified(|told| std::mem::replace(told, newest) != newest);
        Ok(())
    }

    /// Gives a block to the node, and its hash back once the node has it at the top of its chain.
    pub(super) async fn submit(
        &self,
        template: &Template,
        header: &[u8; 80],
        extranonces: &[u8],
    ) -> Result<String, Failure> {
        let _submitting = self.submitting.lock().await;
        if self.job(&template.job.id).is_none() {
            return Err(Failure::new(Failure::STALE, "Another block came first"));
        }
        let refused = |why: String| Failure::new(Failure::OTHER, why);
        let block = hex::encode(template.block(header, extranonces));
        let told = self.rpc.call("submitblock", json!([block])).await;
        match told.map_err(|error| refused(error.to_string()))? {
            Value::Null => {}
            why => return Err(refused(format!("The node refused the block: {why}"))),
        }
        let mut hash = sha256d(header);
        hash.reverse();
        let hash = hex::encode(hash);
        self.refresh().await.map_err(|error| refused(error.to_string()))?;
        let top = self.shelf().proposal.as_ref().map(|proposal| proposal.previous.clone());
        let lost = || refused("The block did not come to the top of the chain".into());
        top.filter(|top| *top == hash).ok_or_else(lost)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Takes what the node proposes, and gives the number of the newest job. None where it cannot
    /// be read.
    fn put(&mut self, proposal: Proposal, script: &[u8]) -> Option<u64> {
        let last = self.proposal.as_ref();
        let same_height = last.is_some_and(|last| last.previous == proposal.previous);
        let same = same_height
            && last.is_some_and(|last| last.transactions == proposal.transactions)
            && self.made.is_some_and(|made| made.elapsed() < RENEWAL);
        if !same {
            let template = Template::new(&proposal, script, self.number + 1)?;
            self.number += 1;
            if !same_height {
                self.clear();
            }
            if self.jobs.len() == JOBS {
                self.jobs.pop_front();
            }
            self.jobs.push_back(Arc::new(template));
            self.made = Some(Instant::now());
            self.proposal = Some(proposal);
        }
        Some(self.number)
    }

    fn clear(&mut self) {
        self.proposal = None;
        self.jobs.clear();
        self.seen.clear();
    }
}

//! The work that a node of Bitcoin proposes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daylight_stratum::pool::{self, Event, Order, V1Job, V1Node, V1Share};
use daylight_stratum::{Difficulty, Failure};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;

use super::template::{Proposal, Template};
use crate::bridge::books::{Books, Ledger};
use crate::error::Result;
use crate::rpc::Rpc;

/// Time between two queries for a new template.
const POLL: Duration = Duration::from_millis(200);
/// Age at which work is replaced although nothing but the time has changed.
const RENEWAL: Duration = Duration::from_secs(30);
/// Number of jobs for the same height that are kept.
const JOBS: usize = 64;

/// The node, and the work for the block that comes next in its chain.
pub(super) struct Node {
    rpc: Rpc,
    script: Vec<u8>,
    difficulty: Difficulty,
    work: Mutex<HeightWork>,
    /// Held while a block is submitted, so that no two are for the same height.
    submitting: tokio::sync::Mutex<()>,
    orders: broadcast::Sender<Order>,
    ledger: Ledger,
}

/// The work for one height.
#[derive(Default)]
struct HeightWork {
    proposal: Option<Proposal>,
    made: Option<Instant>,
    jobs: VecDeque<Arc<Template>>,
    /// Number of the newest job, of whatever height.
    number: u64,
}

impl Node {
    pub(super) fn new(rpc: Rpc, script: Vec<u8>, difficulty: Difficulty) -> Self {
        Self {
            rpc,
            script,
            difficulty,
            work: Mutex::default(),
            submitting: tokio::sync::Mutex::default(),
            orders: broadcast::channel(64).0,
            ledger: Ledger::default(),
        }
    }

    pub(super) fn books(&self) -> watch::Receiver<Books> {
        self.ledger.books()
    }

    /// The template of a number, if it is for the block that comes next.
    fn template(&self, number: u64) -> Option<Arc<Template>> {
        self.work().jobs.iter().find(|template| template.number == number).cloned()
    }

    fn offer(&self, template: &Template) -> V1Job {
        V1Job {
            number: template.number,
            job: template.job.clone(),
            difficulty: self.difficulty,
            times: template.times.clone(),
        }
    }

    /// Keeps the work up to date.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            sleep(POLL).await;
            let _submitting = self.submitting.lock().await;
            // While the node is away there is no work, and the next round asks again.
            let _ = self.refresh().await;
        }
    }

    /// Asks the node what comes next in its chain, and announces work that is new.
    pub(super) async fn refresh(&self) -> Result<()> {
        let method = "getblocktemplate";
        let proposal = match self.rpc.read(method, json!([{"rules": ["segwit"]}])).await {
            Ok(proposal) => proposal,
            Err(error) => {
                self.work().clear();
                return Err(error);
            }
        };
        match self.work().put(proposal, &self.script) {
            None => Err(self.rpc.unreadable(method, "it makes no block")),
            Some(false) => Ok(()),
            Some(true) => {
                // Fails where no miner is connected.
                let _ = self.orders.send(Order::Renew);
                Ok(())
            }
        }
    }

    /// Submits a block, and returns its hash once the node has it at the top of its chain.
    async fn submit(&self, template: &Template, share: &V1Share<'_>) -> Result<String, Failure> {
        let _submitting = self.submitting.lock().await;
        if self.template(template.number).is_none() {
            return Err(Failure::new(Failure::STALE, "Another block came first"));
        }
        let refused = |why: String| Failure::new(Failure::OTHER, why);
        let block = hex::encode(template.block(share.header, share.extranonces));
        let answer = self.rpc.call("submitblock", json!([block])).await;
        match answer? {
            Value::Null => {}
            why => return Err(refused(format!("The node refused the block: {why}"))),
        }
        let mut hash = *share.hash;
        hash.reverse();
        let hash = hex::encode(hash);
        self.refresh().await?;
        let top = self.work().proposal.as_ref().map(|proposal| proposal.previous.clone());
        let lost = || refused("The block did not come to the top of the chain".into());
        top.filter(|top| *top == hash).ok_or_else(lost)
    }

    fn work(&self) -> MutexGuard<'_, HeightWork> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl pool::Node for Node {
    fn orders(&self) -> broadcast::Receiver<Order> {
        self.orders.subscribe()
    }

    fn record(&self, user: Option<&str>, event: Event) {
        self.ledger.record(user, &event);
    }
}

impl V1Node for Node {
    fn newest(&self) -> Option<V1Job> {
        self.work().jobs.back().map(|template| self.offer(template))
    }

    fn job(&self, number: u64) -> Option<V1Job> {
        self.template(number).map(|template| self.offer(&template))
    }

    async fn accept(&self, share: V1Share<'_>) -> Result<(), Failure> {
        let stale = || Failure::new(Failure::STALE, "Another block came first");
        let template = self.template(share.number).ok_or_else(stale)?;
        if template.target().reached_by(share.hash) {
            let hash = self.submit(&template, &share).await?;
            self.ledger.block(template.height, hash, share.user);
        }
        Ok(())
    }
}

impl HeightWork {
    /// Stores what the node proposes: true if it makes a new job, none if it cannot be read.
    fn put(&mut self, proposal: Proposal, script: &[u8]) -> Option<bool> {
        let last = self.proposal.as_ref();
        let same_height = last.is_some_and(|last| last.previous == proposal.previous);
        let same = same_height
            && last.is_some_and(|last| last.transactions == proposal.transactions)
            && self.made.is_some_and(|made| made.elapsed() < RENEWAL);
        if same {
            return Some(false);
        }
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
        Some(true)
    }

    fn clear(&mut self) {
        self.proposal = None;
        self.jobs.clear();
    }
}

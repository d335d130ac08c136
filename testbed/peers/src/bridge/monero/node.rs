//! The work that a node of Monero proposes.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daylight_stratum::monero::{Job, Submit};
use daylight_stratum::pool::{self, Event, MoneroNode, Order};
use daylight_stratum::{Failure, Target};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;

use crate::Monerod;
use crate::bridge::books::{Books, Ledger};
use crate::error::Result;
use crate::rpc::Rpc;

/// Time between two queries for the top of the node's chain.
const POLL: Duration = Duration::from_millis(200);

/// The node, and the work for the block that comes next in its chain.
pub(super) struct Node {
    rpc: Rpc,
    difficulty: NonZeroU64,
    work: Mutex<HeightWork>,
    /// Held while a block is submitted, so that no two are for the same height.
    submitting: tokio::sync::Mutex<()>,
    orders: broadcast::Sender<Order>,
    ledger: Ledger,
}

/// The work for one height.
#[derive(Default)]
struct HeightWork {
    /// The hash of the last block; none while the node is away.
    top: Option<String>,
    /// By number.
    templates: BTreeMap<u64, Arc<Template>>,
    /// Number of the newest template, of whatever height.
    number: u64,
}

/// A block before it is mined, for one miner.
struct Template {
    miner: u32,
    job: Job,
    height: u64,
    /// The network's.
    difficulty: u64,
    seed: String,
    /// The hash of the block before.
    previous: String,
    /// The whole block. The nonce has the same place as in the job's blob.
    block: Vec<u8>,
}

/// The answer of `get_block_template`, as far as it is used here.
#[derive(Deserialize)]
struct Proposal {
    blockhashing_blob: String,
    blocktemplate_blob: String,
    difficulty: u64,
    height: u64,
    prev_hash: String,
    seed_hash: String,
}

#[derive(Deserialize)]
struct Info {
    top_block_hash: String,
}

#[derive(Deserialize)]
struct LastBlock {
    block_header: Header,
}

#[derive(Deserialize)]
struct Header {
    hash: String,
    height: u64,
    nonce: u32,
    prev_hash: String,
}

impl Node {
    pub(super) fn new(rpc: Rpc, difficulty: NonZeroU64) -> Self {
        Self {
            rpc,
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

    /// Keeps up with the node's chain.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            sleep(POLL).await;
            let _submitting = self.submitting.lock().await;
            // While the node is away there is no work, and the next round asks again.
            let _ = self.refresh().await;
        }
    }

    /// Asks the node for the top of its chain, and announces a new one.
    pub(super) async fn refresh(&self) -> Result<()> {
        let (top, result) = match self.rpc.read::<Info>("get_info", json!({})).await {
            Ok(info) => (Some(info.top_block_hash), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let mut work = self.work();
        if work.top != top {
            work.templates.clear();
            work.top = top;
            // Fails where no miner is connected.
            let _ = self.orders.send(Order::Renew);
        }
        result
    }

    /// Makes a template, with an extra nonce in the coinbase that no other has.
    async fn propose(&self, miner: u32, number: u64) -> Result<Template> {
        let method = "get_block_template";
        let extra_nonce = hex::encode(number.to_be_bytes());
        let request = json!({"wallet_address": Monerod::WALLET, "extra_nonce": extra_nonce});
        let proposal: Proposal = self.rpc.read(method, request).await?;
        let unreadable = |error: hex::FromHexError| self.rpc.unreadable(method, error.to_string());
        let mut seed = [0; 32];
        hex::decode_to_slice(&proposal.seed_hash, &mut seed).map_err(unreadable)?;
        let blob = hex::decode(&proposal.blockhashing_blob).map_err(unreadable)?;
        let block = hex::decode(&proposal.blocktemplate_blob).map_err(unreadable)?;
        if blob.len().min(block.len()) < Job::NONCE.end {
            return Err(self.rpc.unreadable(method, "it has no place for a nonce"));
        }
        let job = Job {
            id: number.to_string(),
            blob,
            target: u64::MAX / self.difficulty.get().min(proposal.difficulty),
            algorithm: Some("rx/0".into()),
            height: Some(proposal.height),
            seed: Some(seed),
        };
        Ok(Template {
            miner,
            job,
            height: proposal.height,
            difficulty: proposal.difficulty,
            seed: proposal.seed_hash,
            previous: proposal.prev_hash,
            block,
        })
    }

    /// The template of a number, if it is for the block that comes next.
    fn template(&self, number: u64) -> Result<Arc<Template>, Failure> {
        let work = self.work();
        let template = work.templates.get(&number);
        let next = template.filter(|template| work.top.as_ref() == Some(&template.previous));
        next.cloned().ok_or_else(|| Failure::new(Failure::STALE, "Another block came first"))
    }

    /// Submits a block, and returns its hash once the node has it at the top of its chain.
    async fn submit(&self, number: u64, nonce: [u8; 4]) -> Result<String, Failure> {
        let _submitting = self.submitting.lock().await;
        let template = self.template(number)?;
        let mut block = template.block.clone();
        block[Job::NONCE].copy_from_slice(&nonce);
        self.rpc.call("submit_block", json!([hex::encode(block)])).await?;
        self.refresh().await?;
        let last = self.rpc.read::<LastBlock>("get_last_block_header", json!({})).await;
        let last = last?.block_header;
        let ours = last.height == template.height
            && last.prev_hash == template.previous
            && last.nonce == u32::from_le_bytes(nonce);
        let lost =
            || Failure::new(Failure::OTHER, "The block did not come to the top of the chain");
        ours.then_some(last.hash).ok_or_else(lost)
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

impl MoneroNode for Node {
    async fn new_job(&self, miner: u32) -> Result<Job, Failure> {
        let number = {
            let mut work = self.work();
            work.number += 1;
            work.number
        };
        let template = self.propose(miner, number).await;
        let template = template.map_err(|error| Failure::new(-1, error.to_string()))?;
        let job = template.job.clone();
        self.work().templates.insert(number, Arc::new(template));
        Ok(job)
    }

    fn job(&self, miner: u32, number: u64) -> Option<Job> {
        let template = self.template(number).ok()?;
        (template.miner == miner).then(|| template.job.clone())
    }

    fn is_away(&self) -> bool {
        self.work().top.is_none()
    }

    async fn hash(&self, number: u64, blob: &[u8]) -> Result<[u8; 32], Failure> {
        let (method, template) = ("calc_pow", self.template(number)?);
        let request = json!({
            "major_version": blob[0],
            "height": template.height,
            "block_blob": hex::encode(blob),
            "seed_hash": template.seed,
        });
        let text: String = self.rpc.read(method, request).await?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&text, &mut hash)
            .map_err(|error| self.rpc.unreadable(method, error.to_string()))?;
        Ok(hash)
    }

    async fn accept(&self, user: &str, number: u64, share: &Submit) -> Result<(), Failure> {
        let template = self.template(number)?;
        // The node has the last word; where this is off by one hash in 2⁶⁴, it refuses.
        if Target::from_upper(u64::MAX / template.difficulty).reached_by(&share.result) {
            let hash = self.submit(number, share.nonce).await?;
            self.ledger.block(template.height, hash, user);
        }
        Ok(())
    }
}

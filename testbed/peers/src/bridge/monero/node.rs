//! What the pool knows of its node.

use std::sync::Arc;
use std::time::Duration;

use daylight_stratum::Failure;
use daylight_stratum::monero::Job;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Monerod;
use crate::error::Result;
use crate::rpc::Rpc;

/// How often the node is asked whether its chain has grown.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// The node, and the top of its chain.
pub(super) struct Node {
    rpc: Rpc,
    /// The hash of the last block; none while the node is away.
    top: watch::Sender<Option<String>>,
    /// Held while a block is submitted, so that no two are for the same height.
    submitting: tokio::sync::Mutex<()>,
}

/// A block to be, for one miner.
pub(super) struct Template {
    pub(super) height: u64,
    pub(super) difficulty: u64,
    pub(super) seed: [u8; 32],
    /// The hash of the block before.
    pub(super) previous: String,
    pub(super) hashed: Vec<u8>,
    /// The whole block. The nonce stands where it stands in what is hashed.
    block: Vec<u8>,
}

/// What `get_block_template` answers, as far as it is of use here.
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
    pub(super) fn new(rpc: Rpc) -> Self {
        let (top, submitting) = (watch::channel(None).0, tokio::sync::Mutex::default());
        Self { rpc, top, submitting }
    }

    pub(super) fn news(&self) -> watch::Receiver<Option<String>> {
        self.top.subscribe()
    }

    /// Whether a block comes next in the chain.
    pub(super) fn is_next(&self, template: &Template) -> bool {
        self.top.borrow().as_ref() == Some(&template.previous)
    }

    /// Whether the node did not answer when it was last asked.
    pub(super) fn is_away(&self) -> bool {
        self.top.borrow().is_none()
    }

    /// Keeps up with the node's chain.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            sleep(POLL).await;
            let _submitting = self.submitting.lock().await;
            // Where the node is away there is no work, and it is asked again.
            let _ = self.refresh().await;
        }
    }

    /// Asks the node for the top of its chain.
    pub(super) async fn refresh(&self) -> Result<()> {
        let told = self.rpc.read::<Info>("get_info", json!({})).await;
        let (top, told) = match told {
            Ok(info) => (Some(info.top_block_hash), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.top.send_if_modified(|old| std::mem::replace(old, top.clone()) != top);
        told
    }

    /// A block to be, with bytes in the coinbase that make it another than all others.
    pub(super) async fn template(&self, extra_nonce: [u8; 8]) -> Result<Template> {
        let method = "get_block_template";
        let request =
            json!({"wallet_address": Monerod::WALLET, "extra_nonce": hex::encode(extra_nonce)});
        let proposal: Proposal = self.rpc.read(method, request).await?;
        let bytes = |text: &str| {
            hex::decode(text).map_err(|error| self.rpc.unreadable(method, error.to_string()))
        };
        let mut seed = [0; 32];
        hex::decode_to_slice(&proposal.seed_hash, &mut seed)
            .map_err(|error| self.rpc.unreadable(method, error.to_string()))?;
        let template = Template {
            height: proposal.height,
            difficulty: proposal.difficulty,
            seed,
            previous: proposal.prev_hash,
            hashed: bytes(&proposal.blockhashing_blob)?,
            block: bytes(&proposal.blocktemplate_blob)?,
        };
        if template.hashed.len().min(template.block.len()) < Job::NONCE.end {
            return Err(self.rpc.unreadable(method, "it has no place for a nonce"));
        }
        Ok(template)
    }

    /// The proof of work of what a miner hashed.
    pub(super) async fn hash(&self, template: &Template, blob: &[u8]) -> Result<[u8; 32]> {
        let method = "calc_pow";
        let request = json!({
            "major_version": blob[0],
            "height": template.height,
            "block_blob": hex::encode(blob),
            "seed_hash": hex::encode(template.seed),
        });
        let told: String = self.rpc.read(method, request).await?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&told, &mut hash)
            .map_err(|error| self.rpc.unreadable(method, error.to_string()))?;
        Ok(hash)
    }

    /// Gives a block to the node, and its hash back once the node has it at the top of its chain.
    pub(super) async fn submit(
        &self,
        template: &Template,
        nonce: [u8; 4],
    ) -> Result<String, Failure> {
        let _submitting = self.submitting.lock().await;
        if !self.is_next(template) {
            return Err(Failure::new(Failure::STALE, "Another block came first"));
        }
        let mut block = template.block.clone();
        block[Job::NONCE].copy_from_slice(&nonce);
        let refused = |error: crate::Error| Failure::new(Failure::OTHER, error.to_string());
        self.rpc.call("submit_block", json!([hex::encode(block)])).await.map_err(refused)?;
        self.refresh().await.map_err(refused)?;
        let last = self.rpc.read::<LastBlock>("get_last_block_header", json!({})).await;
        let last = last.map_err(refused)?.block_header;
        let ours = last.height == template.height
            && last.prev_hash == template.previous
            && last.nonce == u32::from_le_bytes(nonce);
        let lost =
            || Failure::new(Failure::OTHER, "The block did not come to the top of the chain");
        ours.then_some(last.hash).ok_or_else(lost)
    }
}

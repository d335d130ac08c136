//! `RandomX` on monerod.

use std::num::NonZeroU64;
use std::sync::Arc;

use daylight_peers::Monerod;
use daylight_peers::bridge::{self, Pool, Shares};
use daylight_stratum::client::{Client, Offer, Verdict};
use daylight_stratum::monero::{Session, Share, Work};
use daylight_testbed::trials::{Outcome, apply, trial};
use randomx_rs::{RandomXCache, RandomXFlag, RandomXVM};
use serde_json::json;

use super::{client, rejected, stayed, too_late};

/// Every hash is a block.
const EASIEST: NonZeroU64 = NonZeroU64::MIN;
/// Some are.
const SOME: NonZeroU64 = NonZeroU64::new(8).expect("above 0");

async fn pool(node: &Monerod, difficulty: NonZeroU64) -> Outcome<Pool> {
    Ok(bridge::monero::start(node, difficulty, "127.0.0.1:0".parse()?).await?)
}

#[apply(trial!)]
async fn monerod_takes_what_is_mined() -> Outcome {
    let node = Monerod::start(EASIEST).await?;
    assert_eq!(node.blocks().await?, 1);
    let pool = pool(&node, EASIEST).await?;
    let client = client::<Session>(&pool, "wallet.one");
    let solver = Solver::new(&offer(&client, 1).await?.work)?;
    for height in 1..=3 {
        let offer = offer(&client, height).await?;
        let share = solver.share(&offer.work, 0)?;
        let verdict = client.shares().submit(offer.connection, share).await?;
        assert_eq!(verdict, Verdict::Accepted);
        assert_eq!(node.blocks().await?, height + 1);
    }
    let blocks = pool.accepted_blocks();
    assert_eq!(blocks.iter().map(|block| block.height).collect::<Vec<_>>(), [1, 2, 3]);
    let last = node.rpc().call("get_last_block_header", json!({})).await?;
    assert_eq!(last["block_header"]["hash"], json!(blocks[2].hash));
    assert_eq!(blocks[2].user, "wallet.one");
    assert_eq!(pool.shares()["wallet.one"], Shares { accepted: 3, rejected: 0 });
    Ok(())
}

#[apply(trial!)]
async fn shares_are_judged_as_monero_has_them() -> Outcome {
    let node = Monerod::start(SOME).await?;
    // Shares are as frequent as hashes, and blocks an eighth of them.
    let pool = pool(&node, EASIEST).await?;
    let client = client::<Session>(&pool, "wallet.one");
    let other = super::client::<Session>(&pool, "wallet.two");
    let offer = offer(&client, 1).await?;
    let late = self::offer(&other, 1).await?;
    assert_ne!(offer.work.job.blob, late.work.job.blob, "each miner has its own");
    let solver = Solver::new(&offer.work)?;
    let submit = async |share| client.shares().submit(offer.connection, share).await;

    let mut accepted = 0;
    let block = loop {
        let share = solver.share(&offer.work, accepted)?;
        if u64::from_le_bytes(share.result[24..].try_into()?) <= u64::MAX / SOME {
            break share;
        }
        assert_eq!(submit(share).await?, Verdict::Accepted);
        accepted += 1;
    };
    assert_eq!(node.blocks().await?, 1, "a share is not a block");
    let lie = Share { result: [1; 32], ..block.clone() };
    assert_eq!(rejected(submit(lie).await?)?.1, "Invalid result");
    assert_eq!(submit(block).await?, Verdict::Accepted);
    assert_eq!(node.blocks().await?, 2);

    // Another miner's share for the same height is stale, whether it knows or not.
    let share = solver.share(&late.work, 0)?;
    too_late(other.shares().submit(late.connection, share).await?)?;
    let books = pool.books();
    assert_eq!(
        books.shares["wallet.one"],
        Shares { accepted: u64::from(accepted) + 1, rejected: 1 }
    );
    assert_eq!(books.blocks.len(), 1);
    stayed(&client);

    // A pool of the same node whose shares are as rare as blocks.
    let rare = self::pool(&node, NonZeroU64::MAX).await?;
    let client = super::client::<Session>(&rare, "wallet.one");
    let offer = self::offer(&client, 2).await?;
    assert_eq!(offer.work.job.target, u64::MAX / SOME);
    let hopeless = Share { job: offer.work.job.id.clone(), nonce: [0; 4], result: [0xff; 32] };
    assert_eq!(rejected(client.shares().submit(offer.connection, hopeless).await?)?.0, 23);
    Ok(())
}

#[apply(trial!)]
async fn a_bridge_outlives_a_restart_of_monerod() -> Outcome {
    let mut node = Monerod::start(EASIEST).await?;
    let pool = pool(&node, EASIEST).await?;
    let client = client::<Session>(&pool, "wallet.one");
    let before = offer(&client, 1).await?;
    let solver = Solver::new(&before.work)?;
    let share = solver.share(&before.work, 0)?;
    assert_eq!(client.shares().submit(before.connection, share).await?, Verdict::Accepted);
    let second = offer(&client, 2).await?.work.job.id.clone();

    node.restart().await?;
    assert_eq!(node.blocks().await?, 2, "its chain is kept");
    // The bridge has seen it end and return, and sends a new job.
    let mut work = client.work();
    let again =
        work.wait_for(|offer| offer.as_ref().is_some_and(|offer| offer.work.job.id != second));
    let again = again.await?.clone().ok_or("it was waited for")?;
    let share = solver.share(&again.work, 0)?;
    assert_eq!(client.shares().submit(again.connection, share).await?, Verdict::Accepted);
    assert_eq!(node.blocks().await?, 3);
    assert_eq!(pool.accepted_blocks().len(), 2);
    stayed(&client);
    Ok(())
}

/// The newest work, once it is for the block of this height.
async fn offer(client: &Client<Session>, height: u64) -> Outcome<Arc<Offer<Work>>> {
    let is_next = |offer: &Option<Arc<Offer<Work>>>| {
        offer.as_ref().is_some_and(|offer| offer.work.job.height == Some(height))
    };
    let mut work = client.work();
    let offer = work.wait_for(is_next).await?.clone();
    Ok(offer.ok_or("it was waited for")?)
}

/// `RandomX` with the small memory.
struct Solver(RandomXVM);

impl Solver {
    fn new(work: &Work) -> Outcome<Self> {
        let flags = RandomXFlag::get_recommended_flags();
        let seed = work.job.seed.ok_or("a seed")?;
        let cache = RandomXCache::new(flags, &seed)?;
        Ok(Self(RandomXVM::new(flags, Some(cache), None)?))
    }

    fn share(&self, work: &Work, nonce: u32) -> Outcome<Share> {
        let nonce = nonce.to_le_bytes();
        let hash = self.0.calculate_hash(&work.job.with_nonce(nonce))?;
        let result = hash.try_into().map_err(|_| "a hash of 32 bytes")?;
        Ok(Share { job: work.job.id.clone(), nonce, result })
    }
}

//! SHA-256d on btcd.

use std::num::NonZeroUsize;
use std::sync::Arc;

use daylight_peers::Btcd;
use daylight_peers::bridge::{self, Pool, Shares};
use daylight_stratum::client::{Client, Offer, Verdict};
use daylight_stratum::sha256d::{Engine, Kernel, Scan};
use daylight_stratum::{Difficulty, v1};
use daylight_testbed::trials::{Outcome, apply, trial};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{client, rejected, stayed, too_late};

/// Some hundred thousand hashes a share, so that the node keeps up with one core.
const RARE: f64 = 3e-5;
/// Some four thousand.
const OFTEN: f64 = 1e-6;

async fn pool(node: &Btcd, difficulty: f64) -> Outcome<Pool> {
    let difficulty = Difficulty::new(difficulty).ok_or("a difficulty")?;
    Ok(bridge::v1::start(node, difficulty, "127.0.0.1:0".parse()?).await?)
}

#[apply(trial!)]
async fn btcd_takes_what_is_mined() -> Outcome {
    let node = Btcd::start().await?;
    assert_eq!(node.height().await?, 0);
    let pool = pool(&node, RARE).await?;
    let client = client::<v1::Session>(&pool, "wallet.one");
    let threads = NonZeroUsize::MIN;
    let engine = Engine::start(threads, Kernel::fastest(), &client.work(), &client.shares())?;
    pool.until(|books| books.blocks.len() >= 3).await;
    tokio::task::spawn_blocking(|| engine.stop()).await?;
    let status = client.drain(super::PATIENCE).await;

    let blocks = pool.accepted_blocks();
    let last = blocks.last().ok_or("blocks")?;
    assert_eq!(node.height().await?, blocks.len() as u64);
    assert_eq!(node.best_block().await?, last.hash);
    assert_eq!((last.height, &*last.user), (blocks.len() as u64, "wallet.one"));
    let block = node.rpc().call("getblock", json!([last.hash, 2])).await?;
    let output = &block["rawtx"][0]["vout"][0];
    assert_eq!(output["value"], 50.0, "{block}");
    assert_eq!(output["scriptPubKey"]["asm"], "1", "{block}");

    // The pool and the miner agree.
    let Shares { accepted, rejected } = pool.shares()["wallet.one"];
    assert_eq!(accepted, blocks.len() as u64);
    assert_eq!(accepted, status.accepted);
    // The miner counts the stale ones separately, those that it did not send among them.
    let refused = status.rejected..=status.rejected + status.stale;
    assert!(refused.contains(&rejected), "{rejected} of {status:?}");
    Ok(())
}

#[apply(trial!)]
async fn shares_are_judged_as_bitcoin_has_them() -> Outcome {
    let node = Btcd::start().await?;
    let pool = pool(&node, OFTEN).await?;
    let client = client::<v1::Session>(&pool, "wallet.one");
    let other = super::client::<v1::Session>(&pool, "wallet.two");
    let offer = offer(&client, 1).await?;
    let late = self::offer(&other, 1).await?;
    let (good, bad) = mine(&offer.work, offer.work.job.version | 0x2000);
    let (shares, connection) = (client.shares(), offer.connection);
    let submit = async |share| shares.submit(connection, share).await;

    assert_eq!(rejected(submit(bad).await?)?.0, 23);
    let forbidden = v1::Share { version_bits: Some(1), ..good.clone() };
    assert_eq!(rejected(submit(forbidden).await?)?.1, "Version bits outside of the mask");
    let early = v1::Share { time: good.time - 1, ..good.clone() };
    assert_eq!(rejected(submit(early).await?)?.1, "Time out of range");
    let short = v1::Share { extranonce2: vec![0], ..good.clone() };
    assert_eq!(rejected(submit(short).await?)?.1, "Incorrect size of extranonce2");
    assert_eq!(node.height().await?, 0);
    assert_eq!(submit(good.clone()).await?, Verdict::Accepted);
    assert_eq!(node.height().await?, 1);

    // Another miner's share for the same height is stale, whether it knows or not.
    let (share, _) = mine(&late.work, late.work.job.version);
    too_late(other.shares().submit(late.connection, share).await?)?;
    assert_eq!(node.height().await?, 1);
    let next = self::offer(&client, 2).await?;
    assert!(next.era > offer.era && next.work.job.clean);
    let mut hash = next.work.job.previous;
    hash.reverse();
    assert_eq!(node.best_block().await?, hex::encode(hash));
    assert_eq!(pool.shares()["wallet.one"], Shares { accepted: 1, rejected: 4 });
    stayed(&client);
    Ok(())
}

/// Segwit is activated by votes as on the main network, which takes three windows of 144 blocks.
#[apply(trial!)]
async fn transactions_with_witnesses_are_mined() -> Outcome {
    let node = Btcd::start().await?;
    // Pays the hash of the script OP_TRUE, which anybody may spend with that script as the witness.
    let script = hex::decode(format!("0020{}", hex::encode(Sha256::digest([0x51]))))?;
    let (difficulty, listen) = (Difficulty::new(OFTEN), "127.0.0.1:0".parse()?);
    let pool = bridge::v1::start_paying(&node, difficulty.ok_or("one")?, listen, &script).await?;
    let client = client::<v1::Session>(&pool, "wallet.one");
    let mine_at = async |height| -> Outcome<Value> {
        let offer = offer(&client, height).await?;
        let (share, _) = mine(&offer.work, 0);
        let verdict = client.shares().submit(offer.connection, share).await?;
        assert_eq!(verdict, Verdict::Accepted, "{height}");
        Ok(node.rpc().call("getblock", json!([node.best_block().await?, 2])).await?)
    };
    let first = mine_at(1).await?;
    let coinbase = first["rawtx"][0]["txid"].as_str().ok_or("a coinbase")?;
    for height in 2..=431 {
        mine_at(height).await?;
    }

    let spent = node.rpc().call("sendrawtransaction", json!([spend(coinbase, &script)?])).await?;
    // btcd makes new templates for the next block, or once a minute.
    mine_at(432).await?;
    let block = mine_at(433).await?;
    assert_eq!(block["rawtx"][1]["txid"], spent, "{block}");
    let coinbase = &block["rawtx"][0];
    let commitment = coinbase["vout"][1]["scriptPubKey"]["hex"].as_str().ok_or("a commitment")?;
    assert!(commitment.starts_with("6a24aa21a9ed"), "{commitment}");
    // The reward after two halvings, and the fee.
    assert_eq!(coinbase["vout"][0]["value"], 12.5 + 1.0, "{coinbase}");
    Ok(())
}

/// A transaction that spends a coinbase, with a witness, and pays the same script.
fn spend(coinbase: &str, script: &[u8]) -> Outcome<String> {
    let mut previous = hex::decode(coinbase)?;
    previous.reverse();
    let paid = 4_900_000_000_u64.to_le_bytes();
    let parts: [&[u8]; 8] = [
        // The version, the marker of a witness, one input.
        &[1, 0, 0, 0, 0, 1, 1],
        &previous,
        // Its first output, no script, the last sequence number; one output.
        &[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1],
        &paid,
        &[script.len() as u8],
        script,
        // The witness: one part, which is the script.
        &[1, 1, 0x51],
        &[0; 4],
    ];
    Ok(hex::encode(parts.concat()))
}

#[apply(trial!)]
async fn a_bridge_outlives_a_restart_of_btcd() -> Outcome {
    let mut node = Btcd::start().await?;
    let pool = pool(&node, OFTEN).await?;
    let client = client::<v1::Session>(&pool, "wallet.one");
    let before = offer(&client, 1).await?;
    let (share, _) = mine(&before.work, 0);
    assert_eq!(client.shares().submit(before.connection, share.clone()).await?, Verdict::Accepted);
    let second = offer(&client, 2).await?;
    let (lost, _) = mine(&second.work, 0);

    node.restart().await?;
    // On regtest btcd has lost its chain.
    assert_eq!(node.height().await?, 0);
    // The pool may have noticed, or learns by this share that the block before is gone.
    let verdict = client.shares().submit(second.connection, lost).await?;
    assert!(matches!(verdict, Verdict::Stale | Verdict::Rejected(_)), "{verdict:?}");
    assert_eq!(node.height().await?, 0);
    let again = offer(&client, 1).await?;
    // Another block than the first, or btcd, which has kept the lost one as an orphan, puts that on
    // top of it.
    let (share, _) = mine(&again.work, 0x2000);
    assert_eq!(client.shares().submit(again.connection, share).await?, Verdict::Accepted);
    assert_eq!(node.height().await?, 1);
    assert_eq!(pool.accepted_blocks().len(), 2);
    stayed(&client);
    Ok(())
}

/// The newest work, once it is for the block of this height.
async fn offer(client: &Client<v1::Session>, height: u64) -> Outcome<Arc<Offer<v1::Work>>> {
    let is_next = |offer: &Option<Arc<Offer<v1::Work>>>| {
        offer.as_ref().is_some_and(|offer| self::height(&offer.work.job) == Some(height))
    };
    let mut work = client.work();
    let offer = work.wait_for(is_next).await?.clone();
    Ok(offer.ok_or("it was waited for")?)
}

/// The height in a coinbase, behind the version, the number of inputs, and the first of these.
fn height(job: &v1::Job) -> Option<u64> {
    let script = &job.coinbase1[4 + 1 + 36 + 1..];
    Some(match script {
        [small @ 0x51..=0x60, ..] => u64::from(small - 0x50),
        [1, height, ..] => u64::from(*height),
        [2, low, high, ..] => u64::from(u16::from_le_bytes([*low, *high])),
        _ => return None,
    })
}

/// A share that reaches the target, and one that does not.
fn mine(work: &v1::Work, version: u32) -> (v1::Share, v1::Share) {
    let share = v1::Share {
        job: work.job.id.clone(),
        extranonce2: vec![7; work.extranonce2_size.into()],
        time: work.job.time,
        nonce: 0,
        version_bits: Some(version & work.version_mask),
    };
    let scan = Scan::new(work.header(&share), work.difficulty.target());
    let found = Kernel::Lanes.scan(&scan, 0, 1 << 18);
    let nonce = *found.first().expect("some sixty reach it");
    let bad = (0..1 << 18).find(|nonce| !found.contains(nonce)).expect("most do not reach it");
    (v1::Share { nonce, ..share.clone() }, v1::Share { nonce: bad, ..share })
}

//! Containers mine for real nodes of Bitcoin and Monero, until these have the blocks at the top of
//! their chains.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use daylight_peers::bridge::{self, Pool};
use daylight_peers::{Btcd, Monerod};
use daylight_stratum::Difficulty;
use daylight_testbed::{MINER_IMAGE, RealNode};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use crate::site::{Site, create};

const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// What is missing here for this, if anything is.
pub(crate) async fn missing() -> Option<String> {
    let monerod = Monerod::start(NonZeroU64::MIN).await.err();
    let btcd = Btcd::start().await.err();
    let missing = monerod.into_iter().chain(btcd).find(daylight_peers::Error::is_missing)?;
    Some(missing.to_string())
}

pub(crate) async fn containers_mine_blocks_that_real_nodes_accept(site: &mut Site) {
    let monerod = Monerod::start(NonZeroU64::MIN).await.unwrap();
    let address = SocketAddr::from(ANYWHERE);
    let monero = bridge::monero::start(&monerod, NonZeroU64::MIN, address).await.unwrap();
    let btcd = Btcd::start().await.unwrap();
    let difficulty = Difficulty::new(0.0025).unwrap();
    let bitcoin = bridge::v1::start(&btcd, difficulty, address).await.unwrap();

    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.start_with(&["--metered"]);
    miner(
        site,
        "monero",
        &monero,
        json!({"name": "randomx", "algorithm": "rx/0"}),
        Monerod::WALLET,
    )
    .await;
    miner(site, "bitcoin", &bitcoin, json!({"name": "sha256d"}), "bc1qexample").await;

    let patience = Duration::from_mins(3);
    for (name, pool) in [("bitcoin", &bitcoin), ("monero", &monero)] {
        let mined = pool.until(|books| books.blocks.len() >= 2);
        let mined = tokio::time::timeout(patience, mined).await;
        assert!(mined.is_ok(), "{name}: {:?}", pool.books());
        site.miner_status(name, "ready", |status| status["readyReplicas"] == 1).await;
    }
    assert!(btcd.height().await.unwrap() >= 2);
    assert!(monerod.blocks().await.unwrap() >= 2);
}

async fn miner(site: &Site, name: &str, pool: &Pool, engine: Value, wallet: &str) {
    let secrets: Api<Secret> = site.namespaced();
    let data = json!({"address": wallet});
    create(&secrets, json!({"metadata": {"name": name}, "stringData": data})).await;
    let endpoint = format!("{}:{}", RealNode::GATEWAY, pool.address().port());
    let spec = json!({
        "image": MINER_IMAGE, "agent": "Daylight", "engine": engine,
        "poolEndpoints": [endpoint], "walletSecretRef": {"name": name},
        "drainTimeout": "10s", "resources": {"cpu": "500m", "memory": "400Mi"},
        "env": [{"name": "THREADS", "value": "1"}],
    });
    site.miner(name, "reg", 1, spec).await;
}

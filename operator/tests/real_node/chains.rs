//! Containers mine for real nodes of Bitcoin and Monero, until these have the blocks at the top of
//! their chains.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use daylight_peers::bridge::{self, Pool};
use daylight_peers::{Btcd, Monerod};
use daylight_stratum::Difficulty;
use daylight_test_site::{Site, create};
use daylight_testbed::trials::{Outcome, apply, trial};
use daylight_testbed::{MINER_IMAGE, RealNode};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use crate::RealSite;

const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// MiB of them for RandomX's cache and one thread.
const HUGE_PAGES: u64 = 264;

#[apply(trial!)]
async fn containers_mine_blocks_that_real_nodes_accept(site: &mut RealSite) -> Outcome {
    let monerod = Monerod::start(NonZeroU64::MIN).await?;
    let address = SocketAddr::from(ANYWHERE);
    let monero = bridge::monero::start(&monerod, NonZeroU64::MIN, address).await.unwrap();
    let btcd = Btcd::start().await?;
    let difficulty = Difficulty::new(0.0025).unwrap();
    let bitcoin = bridge::v1::start(&btcd, difficulty, address).await.unwrap();

    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.start_with(&["--metered"]);
    let mut resources = json!({"cpu": "500m", "memory": "400Mi"});
    let huge_pages = huge_pages_are_free();
    if huge_pages {
        resources["hugePages2Mi"] = json!(format!("{HUGE_PAGES}Mi"));
    }
    let engine = json!({"name": "randomx", "algorithm": "rx/0"});
    miner(site, "monero", &monero, engine, &resources, Monerod::WALLET).await;
    let engine = json!({"name": "sha256d"});
    let resources = json!({"cpu": "500m", "memory": "64Mi"});
    miner(site, "bitcoin", &bitcoin, engine, &resources, "bc1qexample").await;

    let patience = Duration::from_mins(3);
    for (name, pool) in [("bitcoin", &bitcoin), ("monero", &monero)] {
        let mined = pool.until(|books| books.blocks.len() >= 2);
        let mined = tokio::time::timeout(patience, mined).await;
        assert!(mined.is_ok(), "{name}: {:?}", pool.books());
        site.wait_for_miner(name, "ready", |status| status["readyReplicas"] == 1).await;
    }
    if huge_pages {
        let miner = ["logs", "-n", &site.name, "-l", "daylight.dev/miner=monero"];
        let log = site.control_plane.kubectl_ok(miner).await.unwrap();
        assert!(log.contains("RandomX hashes on huge pages"), "{log}");
    }
    assert!(btcd.height().await.unwrap() >= 2);
    assert!(monerod.blocks().await.unwrap() >= 2);
    Ok(())
}

/// Whether this machine has set aside as many huge pages as RandomX takes.
fn huge_pages_are_free() -> bool {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let said = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    said("Hugepagesize") == Some(2048)
        && said("HugePages_Free").is_some_and(|pages| pages * 2 >= HUGE_PAGES)
}

async fn miner(
    site: &Site,
    name: &str,
    pool: &Pool,
    engine: Value,
    resources: &Value,
    wallet: &str,
) {
    let secrets: Api<Secret> = site.namespaced();
    let data = json!({"address": wallet});
    create(&secrets, json!({"metadata": {"name": name}, "stringData": data})).await;
    let endpoint = format!("{}:{}", RealNode::GATEWAY, pool.address().port());
    let spec = json!({
        "image": MINER_IMAGE, "agent": "Daylight", "engine": engine,
        "poolEndpoints": [endpoint], "walletSecretRef": {"name": name},
        "drainTimeout": "10s", "resources": resources,
        "env": [{"name": "THREADS", "value": "1"}],
    });
    site.miner(name, "reg", 1, spec).await;
}

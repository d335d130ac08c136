//! Daylight's own agent in containers: hashing for a pool, giving way, and saying what is wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use daylight_crds::Miner;
use daylight_test_site::observer::Watch;
use daylight_test_site::pool::{Pool, SALT, WALLET};
use daylight_test_site::program::Process;
use daylight_test_site::{SOON, Site, create, eventually};
use daylight_testbed::trials::{apply, trial};
use daylight_testbed::{MINER_IMAGE, RealNode};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::runtime::watcher::Event;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{RealSite, end};

/// A registration that commits to [`WALLET`], approved, and the Secret with it.
pub(crate) async fn registered(site: &Site) {
    let digest = Sha256::new().chain_update(SALT).chain_update(WALLET).finalize();
    let commitment = format!("sha256:{}", hex::encode(digest));
    let payout = json!({"asset": "BTC", "addressCommitment": commitment});
    site.filed_with("reg", json!({"limits": {"gpus": 100}, "payout": payout})).await;
    site.approve("reg");
    wallet(site, "wallet", WALLET).await;
}

async fn wallet(site: &Site, name: &str, address: &str) {
    let secrets: Api<Secret> = site.namespaced();
    let data = json!({"address": address, "salt": SALT});
    create(&secrets, json!({"metadata": {"name": name}, "stringData": data})).await;
}

/// A miner with Daylight's agent.
pub(crate) async fn miner(site: &Site, name: &str, replicas: u32, pool: &str, with: Value) {
    let mut spec = json!({
        "image": MINER_IMAGE, "agent": "Daylight", "engine": {"name": "sha256d"},
        "poolEndpoints": [pool], "walletSecretRef": {"name": "wallet", "saltKey": "salt"},
        "drainTimeout": "10s", "resources": {"cpu": "100m", "memory": "64Mi"},
        "env": [{"name": "THREADS", "value": "1"}],
    });
    for (key, value) in with.as_object().unwrap() {
        spec[key] = value.clone();
    }
    site.miner(name, "reg", replicas, spec).await;
}

/// Starts an auditor, which ends with the site.
fn audited(site: &mut Site, flags: &[&str]) {
    let auditor = Process::auditor(&site.control_plane, "t1-auditor", "journal", flags);
    site.processes.push(auditor);
}

/// What containers leave in their termination messages, by pod.
type Records = Arc<Mutex<BTreeMap<String, Value>>>;

/// The records of containers that end while it is watched.
fn records(site: &Site) -> (Records, Watch) {
    let records = Records::default();
    let kept = records.clone();
    let watch = Watch::start(site.namespaced(), move |event| {
        let (Event::Apply(pod) | Event::Delete(pod)) = event else { return };
        if let Some(message) = end(&pod).and_then(|end| end.message) {
            let record = serde_json::from_str(message.trim()).unwrap();
            kept.lock().unwrap().insert(pod.name_any(), record);
        }
    });
    (records, watch)
}

#[apply(trial!)]
async fn containers_hash_drain_and_give_way(site: &mut RealSite) {
    let pool = Pool::open(None).await;
    site.pool(json!({})).await;
    registered(site).await;
    site.start_with(&["--metered"]);
    miner(site, "miner", 8, &pool.endpoint(), json!({})).await;

    site.wait_for_mining(8).await;
    let ready = |status: &Value| status["readyReplicas"] == 8;
    site.wait_for_miner("miner", "ready", ready).await;
    // The wallet that is registered, and each pod as a worker of its own.
    let users = pool.users();
    assert!(users.iter().all(|user| user.starts_with(&format!("{WALLET}.miner-"))), "{users:?}");
    let agents = format!("{}*", MINER_IMAGE.split(':').next().unwrap());
    audited(site, &["--agent-images", &agents, "--agent-every", "1s"]);
    let works = |status: &Value| {
        status["work"]["replicas"] == 8
            && status["work"]["sharesAccepted"].as_u64() > Some(10)
            && status["work"]["hashrate"].as_str().is_some_and(|rate| rate.ends_with('M'))
    };
    site.wait_for_miner("miner", "at work", works).await;
    let table = site.control_plane.kubectl_ok(["get", "miner", "-n", &site.name]).await.unwrap();
    eprintln!("{table}");
    assert!(table.contains("HASHRATE") && table.contains("SHARES"), "{table}");

    let (records, _watch) = records(site);
    let took = wait_for_ai(site, "train").await;
    eprintln!("a pod of 8 GPUs ran after {took:?}");

    // Each was asked, ended by itself and said what the pool says, to the last share.
    {
        let records = records.lock().unwrap();
        assert_eq!(records.len(), 8, "{records:#?}");
        for record in records.values() {
            assert_eq!(
                (&record["reason"], &record["evidence"]),
                (&json!("Drained"), &json!("seen"))
            );
        }
    }
    let over = |status: &Value| status["work"]["replicas"] == 0;
    let status = site.wait_for_miner("miner", "over", over).await;
    let ended = status["work"]["ended"]["sharesAccepted"].as_u64();
    assert_eq!(ended, Some(pool.accepted()), "{status}");
    assert_eq!(status["work"]["hashrate"], "0");
}

#[apply(trial!)]
async fn what_is_wrong_with_a_miner_shows_on_it(site: &mut RealSite) {
    site.pool(json!({})).await;
    registered(site).await;
    wallet(site, "other", "bc1qsomebodyelse").await;
    site.start_with(&["--metered"]);
    audited(site, &["--agent-every", "1s"]);

    let closed = Pool::open(Some("somebody".into())).await;
    let nobody = format!("stratum+tcp://{}:1", RealNode::GATEWAY);
    let other = json!({"walletSecretRef": {"name": "other", "saltKey": "salt"}});
    let none = json!({"walletSecretRef": {"name": "no-such-secret"}});
    let args = json!({"engine": {"name": "sha256d", "args": ["--fast"]}});
    let image = json!({"image": "daylight.dev/no-such-image:1"});
    miner(site, "wrong-wallet", 1, &closed.endpoint(), other).await;
    miner(site, "no-wallet", 1, &closed.endpoint(), none).await;
    miner(site, "refused", 1, &closed.endpoint(), json!({})).await;
    miner(site, "unreachable", 1, &nobody, json!({})).await;
    miner(site, "misconfigured", 1, &nobody, args).await;
    miner(site, "no-image", 1, &nobody, image).await;
    let engine = json!({"name": "workload", "args": ["-memory", "256"]});
    let greedy = json!({"image": RealNode::IMAGE, "agent": "Other", "engine": engine});
    miner(site, "greedy", 1, &nobody, greedy).await;

    for (name, word, part) in [
        ("wrong-wallet", "WrongWallet", "not the wallet that the registration commits to"),
        (
            "no-wallet",
            "BadConfiguration",
            "pool.wallet_file: /run/secrets/daylight/wallet cannot be read",
        ),
        ("refused", "LoginRefused", "refused the login"),
        ("unreachable", "PoolUnreachable", "1 of its replicas cannot reach any mining pool"),
        ("misconfigured", "BadConfiguration", "engine.args: it is for programs"),
        ("no-image", "", "its container cannot start"),
        ("greedy", "OOMKilled", "it used more memory than spec.resources.memory and was killed"),
    ] {
        let says = |status: &Value| {
            let message = status["message"].as_str().unwrap_or_default();
            (word.is_empty() || status["reason"] == word) && message.contains(part)
        };
        let status = site.wait_for_miner(name, word, says).await;
        eprintln!("{name}: {}: {}", status["reason"], status["message"]);
    }
    // Nothing of it closed the node to others, nor more slots than the image that is not there.
    let miners: Api<Miner> = site.namespaced();
    miners.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let pool = Pool::open(None).await;
    miner(site, "well", 6, &pool.endpoint(), json!({})).await;
    site.wait_for_miner("well", "ready", |status| status["readyReplicas"] == 6).await;
    assert_eq!(closed.users(), Vec::<String>::new());
}

#[apply(trial!)]
async fn an_engine_that_hangs_gives_its_gpus_back_in_time(site: &mut RealSite) {
    site.pool(json!({})).await;
    registered(site).await;
    site.start_with(&["--metered"]);
    // It takes SIGTERM and continues for an hour.
    let engine = json!({"name": "workload", "args": ["-drain", "1h"]});
    let hanging = json!({
        "image": RealNode::IMAGE, "agent": "Other", "engine": engine, "drainTimeout": "3s",
    });
    miner(site, "hanging", 8, "127.0.0.1:1", hanging).await;
    site.wait_for_mining(8).await;
    let took = wait_for_ai(site, "train").await;
    eprintln!("a pod of 8 GPUs ran {took:?} after it came to miners that hang");
    // The drain time, and what a kubelet takes for it all on a busy machine.
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(20), "{took:?}");
}

/// Creates a plain pod of 8 GPUs, and returns how long it took until it ran.
async fn wait_for_ai(site: &Site, name: &str) -> Duration {
    let begun = Instant::now();
    let pods: Api<Pod> = site.namespaced();
    let container = json!({
        "name": "train", "image": RealNode::IMAGE, "imagePullPolicy": "Never",
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
    });
    create(&pods, json!({"metadata": {"name": name}, "spec": {"containers": [container]}})).await;
    eventually(SOON, "the AI pod runs", || async {
        pods.get(name).await.unwrap().status?.phase.filter(|phase| phase == "Running")
    })
    .await;
    begun.elapsed()
}

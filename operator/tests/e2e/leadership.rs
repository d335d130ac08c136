//! One writer, whatever happens to it.

use std::time::{Duration, Instant};

use daylight_test_site::program::{LEASE_DURATION, REQUEST_TIMEOUT};
use daylight_test_site::{SOON, Site, eventually};
use daylight_testbed::trials::{apply, trial};
use serde_json::json;

/// Waits until one of the controllers leads, and returns its place.
async fn wait_for_leader(site: &Site) -> usize {
    eventually(SOON, "a leader", || async {
        for (place, controller) in site.processes.iter().enumerate() {
            if controller.leads().await {
                return Some(place);
            }
        }
        None
    })
    .await
}

/// A site with work for a while: 160 GPUs of which 150 may mine.
async fn filling(site: &mut Site) {
    site.nodes(20).await;
    site.pool(json!({"maxGpus": 150})).await;
    site.observer.cap_pool(&site.name, 150);
    site.registered("reg", json!({"gpus": 155})).await;
    site.observer.cap_registration(&site.key("reg"), 155);
    site.miner("miner", "reg", 500, json!({})).await;
}

#[apply(trial!)]
async fn a_leader_killed_while_filling_is_replaced(site: &mut Site) {
    filling(site).await;
    // Slowly, so that there is something to interrupt.
    site.start_with(&["--rate", "30"]);
    wait_for_leader(site).await;
    site.start();
    eventually(SOON, "filling has begun", || async {
        (site.observer.started() > 20).then_some(())
    })
    .await;
    site.processes.remove(0).kill().await;
    let killed = Instant::now();
    let before = site.observer.started();
    assert!(before < 150, "it was too quick to be killed: {before}");
    eventually(SOON, "the other continues", || async {
        (site.observer.started() > before + 5).then_some(())
    })
    .await;
    let took = killed.elapsed();
    eprintln!("the first grant of the next leader came after {took:?}");
    assert!(took < LEASE_DURATION + REQUEST_TIMEOUT + Duration::from_secs(3), "{took:?}");
    site.wait_for_mining(150).await;
    assert_eq!(site.observer.started(), 150, "nothing was granted twice");
}

#[apply(trial!)]
async fn a_leader_killed_while_reclaiming_is_replaced(site: &mut Site) {
    filling(site).await;
    site.start();
    site.wait_for_mining(150).await;
    site.processes.remove(0).terminate().await;
    site.start_with(&["--rate", "20"]);
    wait_for_leader(site).await;
    site.start();
    site.ai_job("training", 10, 8, json!({})).await;
    eventually(SOON, "some have gone", || async {
        (site.mining().await.len() < 140).then_some(())
    })
    .await;
    site.processes.remove(0).kill().await;
    let status =
        site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    // 80 GPUs of which 10 were idle by the pool's limit.
    let displaced = status["displaced"].as_u64().unwrap();
    site.wait_for_mining(80).await;
    assert!((70..=80).contains(&displaced), "{displaced}");
    assert_eq!(site.observer.started() as u64, 150, "no pod was displaced in vain");
}

#[apply(trial!)]
async fn a_paused_leader_writes_nothing_when_it_goes_on(site: &mut Site) {
    filling(site).await;
    site.start_with(&["--rate", "30"]);
    wait_for_leader(site).await;
    site.start();
    eventually(SOON, "filling has begun", || async {
        (site.observer.started() > 10).then_some(())
    })
    .await;
    site.processes[0].pause();
    let begun = Instant::now();
    eventually(SOON, "the other leads", || async { site.processes[1].leads().await.then_some(()) })
        .await;
    eprintln!("another led {:?} after the pause", begun.elapsed());
    site.wait_for_mining(150).await;
    // Fewer may mine now, and the one that slept does not know.
    site.edit_pool(json!({"mining": {"maxGpus": 100}})).await;
    site.wait_until_settled(100).await;
    site.observer.cap_pool(&site.name, 100);
    let started = site.observer.started();
    site.processes[0].resume();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!site.processes[0].leads().await);
    assert_eq!(site.observer.started(), started, "the one that slept started miners");
    site.wait_for_mining(100).await;
}

#[apply(trial!)]
async fn a_leader_that_ends_hands_over_within_a_second(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.start();
    wait_for_leader(site).await;
    site.start();
    eventually(SOON, "the other is ready", || async {
        let (code, _) = site.processes[1].get("/readyz").await?;
        (code == 200).then_some(())
    })
    .await;
    let ended = site.processes.remove(0).terminate().await;
    let begun = Instant::now();
    eventually(Duration::from_secs(1), "the other leads", || async {
        site.processes[0].leads().await.then_some(())
    })
    .await;
    eprintln!("ended after {ended:?}; the next led {:?} later", begun.elapsed());
    assert!(ended < Duration::from_secs(1), "{ended:?}");
    site.miner("miner", "reg", 16, json!({})).await;
    site.wait_for_mining(16).await;
}

#[apply(trial!)]
async fn every_replica_is_ready_and_one_leads(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    for _ in 0..3 {
        site.start();
    }
    eventually(SOON, "all are ready", || async {
        for controller in &site.processes {
            if controller.get("/readyz").await?.0 != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    let mut leaders = 0;
    for controller in &site.processes {
        leaders += u32::from(controller.leads().await);
        assert_eq!(controller.get("/livez").await.unwrap().0, 200);
    }
    assert_eq!(leaders, 1);
}

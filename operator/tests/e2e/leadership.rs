//! One writer, whatever happens to it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::daylight::{LEASE_DURATION, REQUEST_TIMEOUT};
use crate::site::{SOON, Site, eventually};

/// Waits until one of the controllers leads, and gives its place.
async fn leader(site: &Site) -> usize {
    eventually(SOON, "a leader", || async {
        for (place, controller) in site.controllers.iter().enumerate() {
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

pub(crate) async fn a_leader_killed_while_filling_is_replaced(site: &mut Site) {
    filling(site).await;
    // Slowly, so that there is something to interrupt.
    site.start_with(&["--rate", "30"]);
    leader(site).await;
    site.start();
    eventually(SOON, "filling has begun", || async {
        (site.observer.started() > 20).then_some(())
    })
    .await;
    site.controllers.remove(0).kill().await;
    let killed = Instant::now();
    let before = site.observer.started();
    assert!(before < 150, "it was too quick to be killed: {before}");
    eventually(SOON, "the other goes on", || async {
        (site.observer.started() > before + 5).then_some(())
    })
    .await;
    let took = killed.elapsed();
    eprintln!("the first grant of the next leader came after {took:?}");
    assert!(took < LEASE_DURATION + REQUEST_TIMEOUT + Duration::from_secs(3), "{took:?}");
    site.mines(150).await;
    assert_eq!(site.observer.started(), 150, "nothing was granted twice");
}

pub(crate) async fn a_leader_killed_while_reclaiming_is_replaced(site: &mut Site) {
    filling(site).await;
    site.start();
    site.mines(150).await;
    site.controllers.remove(0).terminate().await;
    site.start_with(&["--rate", "20"]);
    leader(site).await;
    site.start();
    site.ai_job("training", 10, 8, json!({})).await;
    eventually(SOON, "some have gone", || async {
        (site.mining().await.len() < 140).then_some(())
    })
    .await;
    site.controllers.remove(0).kill().await;
    let status =
        site.job_status("training", "running", |status| status["state"] == "Running").await;
    // 80 GPUs of which 10 were idle by the pool's limit.
    let displaced = status["displaced"].as_u64().unwrap();
    site.mines(80).await;
    assert!((70..=80).contains(&displaced), "{displaced}");
    assert_eq!(site.observer.started() as u64, 150, "nobody was displaced for nothing");
}

pub(crate) async fn a_paused_leader_writes_nothing_when_it_goes_on(site: &mut Site) {
    filling(site).await;
    site.start_with(&["--rate", "30"]);
    leader(site).await;
    site.start();
    eventually(SOON, "filling has begun", || async {
        (site.observer.started() > 10).then_some(())
    })
    .await;
    site.controllers[0].pause();
    let begun = Instant::now();
    eventually(SOON, "the other leads", || async {
        site.controllers[1].leads().await.then_some(())
    })
    .await;
    eprintln!("another led {:?} after the pause", begun.elapsed());
    site.mines(150).await;
    // Fewer may mine now, and the one that slept does not know.
    site.edit_pool(json!({"mining": {"maxGpus": 100}})).await;
    site.settles(100).await;
    site.observer.cap_pool(&site.name, 100);
    let started = site.observer.started();
    site.controllers[0].resume();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!site.controllers[0].leads().await);
    assert_eq!(site.observer.started(), started, "the one that slept started miners");
    site.mines(100).await;
}

pub(crate) async fn a_leader_that_ends_hands_over_within_a_second(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.start();
    leader(site).await;
    site.start();
    eventually(SOON, "the other is ready", || async {
        let (code, _) = site.controllers[1].get("/readyz").await?;
        (code == 200).then_some(())
    })
    .await;
    let ended = site.controllers.remove(0).terminate().await;
    let begun = Instant::now();
    eventually(Duration::from_secs(1), "the other leads", || async {
        site.controllers[0].leads().await.then_some(())
    })
    .await;
    eprintln!("ended after {ended:?}; the next led {:?} later", begun.elapsed());
    assert!(ended < Duration::from_secs(1), "{ended:?}");
    site.miner("miner", "reg", 16, json!({})).await;
    site.mines(16).await;
}

pub(crate) async fn every_replica_is_ready_and_one_leads(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    for _ in 0..3 {
        site.start();
    }
    eventually(SOON, "all are ready", || async {
        for controller in &site.controllers {
            if controller.get("/readyz").await?.0 != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    let mut leaders = 0;
    for controller in &site.controllers {
        leaders += u32::from(controller.leads().await);
        assert_eq!(controller.get("/livez").await.unwrap().0, 200);
    }
    assert_eq!(leaders, 1);
}

//! A registration is renewed by another one, and its miners go over to that.

use std::time::{Duration, Instant};

use daylight_test_site::Site;
use daylight_testbed::trials::{apply, trial};
use jiff::{SignedDuration, Timestamp, Unit};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::json;

/// The miners' drain time, by which their pods end before their registration does.
const DRAIN: Duration = Duration::from_secs(5);

fn registration_of(pod: &Pod) -> &str {
    pod.labels().get("daylight.dev/registration").map_or("", String::as_str)
}

/// Files and approves `old`, which ends after `lasts` seconds, and `new`, which renews it and
/// begins `overlap` seconds before that; then watches the miners go over. Gives for how long
/// fewer than all of them ran.
async fn goes_over(site: &mut Site, lasts: i64, overlap: i64) -> Duration {
    let end = Timestamp::now() + SignedDuration::from_secs(lasts);
    let end = end.round(Unit::Second).unwrap();
    let begin = end - SignedDuration::from_secs(overlap);
    site.nodes(1).await;
    site.pool(json!({})).await;
    let limits = json!({"gpus": 8});
    site.filed_with("old", json!({"limits": limits, "validUntil": end.to_string()})).await;
    let new = json!({"limits": limits, "renews": "old", "validFrom": begin.to_string()});
    site.filed_with("new", new).await;
    site.approve("old");
    site.approve("new");
    site.miner("miner", "old", 8, json!({"drainTimeout": "5s"})).await;
    site.observer.cap_pool(&site.name, 8);
    site.start();
    site.wait_for_mining(8).await;
    assert!(site.mining().await.iter().all(|pod| registration_of(pod) == "old"));
    assert!(Timestamp::now() < end - DRAIN, "the test is too slow for its times");

    let begun = Instant::now();
    let (mut fewer, mut gap) = (None, Duration::ZERO);
    loop {
        let mining = site.mining().await;
        let past_end = Timestamp::now() > end;
        let under_old = mining.iter().filter(|pod| registration_of(pod) == "old").count();
        assert!(!past_end || under_old == 0, "{under_old} mine under what has ended");
        if mining.len() < 8 {
            fewer.get_or_insert_with(Instant::now);
        } else if let Some(since) = fewer.take() {
            gap += since.elapsed();
        }
        if mining.len() == 8 && mining.iter().all(|pod| registration_of(pod) == "new") {
            return gap;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{under_old} still under the old one");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[apply(trial!)]
async fn a_renewal_that_overlaps_costs_no_more_than_the_drain(site: &mut Site) {
    let gap = goes_over(site, 20, 10).await;
    println!("renewal, overlapping: {gap:?} with fewer than 8 of 8 GPUs mining");
    assert!(gap <= DRAIN, "{gap:?}");
    // What it renews may go now.
    let old = site.key("old");
    let why = site.daylight(&["why", "miner", &site.key("miner")]);
    assert!(!why.contains(&old), "{why}");
}

#[apply(trial!)]
async fn a_renewal_that_begins_as_the_old_one_ends_waits_for_that(site: &mut Site) {
    let gap = goes_over(site, 18, 0).await;
    println!("renewal, back to back: {gap:?} with fewer than 8 of 8 GPUs mining");
    // Miners have stopped by the end, and begin no sooner than the renewal.
    assert!(gap <= DRAIN + Duration::from_secs(5), "{gap:?}");
}

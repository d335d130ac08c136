//! Energy limits hold, though they are counted by another process that may be late or away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daylight_crds::{Miner, Registration};
use daylight_test_site::{Site, eventually};
use daylight_testbed::trials::{apply, trial};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const KILOWATT_HOUR: u64 = 3_600_000_000;

/// Counts what the pods of a registration draw and writes it into its status, as the auditor
/// does, until it is dropped.
struct Meter {
    millijoules: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Meter {
    /// Continues from what was counted before.
    fn start(site: &Site, name: &str, watts: u64, before: u64) -> Self {
        let millijoules = Arc::new(AtomicU64::new(before));
        let counted = millijoules.clone();
        let (pods, registrations): (Api<Pod>, Api<Registration>) =
            (site.namespaced(), site.namespaced());
        let name = name.to_owned();
        let task = tokio::spawn(async move {
            let labels = ListParams::default().labels(&format!("daylight.dev/registration={name}"));
            let (mut last, mut drew) = (Instant::now(), 0);
            loop {
                let until = Timestamp::now();
                let now = Instant::now();
                let alive = pods.list(&labels).await.unwrap().items.into_iter().filter(|pod| {
                    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                    !matches!(phase, Some("Succeeded" | "Failed"))
                });
                let draws = alive.count() as u64;
                let millis = now.duration_since(last).as_millis() as u64;
                let more = draws.max(drew) * watts * millis;
                (last, drew) = (now, draws);
                let total = counted.fetch_add(more, Ordering::SeqCst) + more;
                write(&registrations, &name, total, until, watts).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { millijoules, task }
    }

    fn millijoules(&self) -> u64 {
        self.millijoules.load(Ordering::SeqCst)
    }
}

async fn write(api: &Api<Registration>, name: &str, total: u64, until: Timestamp, watts: u64) {
    let now = until.to_zoned(jiff::tz::TimeZone::UTC);
    let year = now.first_of_year().unwrap().start_of_day().unwrap().timestamp();
    let until = Timestamp::from_second(until.as_second()).unwrap();
    let status = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration",
        "metadata": {"name": name},
        "status": {"usage": {
            "meteredUntil": until.to_string(), "periodStart": year.to_string(),
            "millijoules": total.to_string(), "peakWatts": watts,
        }},
    });
    let params = PatchParams::apply("daylight/auditor").force();
    api.patch_status(name, &params, &Patch::Apply(&status)).await.unwrap();
}

async fn limited(site: &Site, kwh: u64, replicas: u32, watts: u64) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let energy = json!({"kwh": kwh, "period": "Year"});
    site.registered("reg", json!({"gpus": 8, "energy": energy})).await;
    let spec = json!({"wattsPerReplica": watts, "drainTimeout": "1s"});
    site.miner("miner", "reg", replicas, spec).await;
}

async fn status_of(site: &Site) -> Value {
    let registrations: Api<Registration> = site.namespaced();
    serde_json::to_value(registrations.get("reg").await.unwrap().status).unwrap()
}

#[apply(trial!)]
async fn no_kwh_cap_is_passed_and_its_date_is_foreseen(site: &mut Site) {
    // Eight replicas use the whole of it in 18 seconds.
    let (kwh, watts) = (4, 100_000);
    limited(site, kwh, 8, watts).await;
    site.start_with(&["--meter-stale", "5s", "--energy-ahead", "2s"]);
    let meter = Meter::start(site, "reg", watts, 0);
    site.wait_for_mining(8).await;
    let status = site
        .wait_for_status::<Registration>(site.namespaced(), "reg", "forecast", |status| {
            status["forecast"]["at"].is_string()
        })
        .await;
    let condition = |status: &Value, kind: &str| -> Value {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().find(|one| one["type"] == kind).unwrap().clone()
    };
    let foreseen = condition(&status, "LimitForecast");
    assert_eq!(foreseen["status"], "True");
    assert!(foreseen["message"].as_str().unwrap().contains("limit of 4 kWh will be reached at"));
    assert_eq!(status["forecast"]["limit"], "Registration");
    let events: Api<Event> = site.namespaced();
    eventually(Duration::from_secs(30), "an Event about it", || async {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.into_iter().find(|event| {
            event.reason.as_deref() == Some("LimitAhead")
                && event.type_.as_deref() == Some("Warning")
        })
    })
    .await;

    let cap = kwh * KILOWATT_HOUR;
    let begun = Instant::now();
    // It ends with what lets not even one replica run for as long as it must be able to.
    let mut idle_since = None;
    loop {
        let used = meter.millijoules();
        assert!(used <= cap, "{used} mJ of {cap} mJ");
        let none = site.pods("daylight.dev/miner").await.is_empty();
        let since = *idle_since.get_or_insert_with(Instant::now);
        if !none {
            idle_since = None;
        } else if since.elapsed() > Duration::from_secs(5) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_mins(2), "it still mines: {used} mJ of {cap} mJ");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let used = meter.millijoules();
    println!("energy: {used} mJ of {cap} mJ used, {} %", used * 100 / cap);
    assert!(used > cap * 8 / 10, "mining stopped far too early: {used} mJ of {cap} mJ");
    let status = status_of(site).await;
    let text = status["limitsUsed"].as_str().unwrap();
    assert!(text.starts_with("GPUs 0/8, ") && text.ends_with("% of 4 kWh"), "{text}");
    assert_eq!(condition(&status, "OverLimit")["status"], "False");
    site.wait_for_miner("miner", "explained", |status| status["reason"] == "EnergyLimit").await;
}

#[apply(trial!)]
async fn a_meter_that_stops_holds_mining_and_not_ai(site: &mut Site) {
    limited(site, 1_000, 2, 300).await;
    site.start_with(&["--meter-stale", "3s"]);
    let meter = Meter::start(site, "reg", 300, 0);
    site.wait_for_mining(2).await;
    let counted = meter.millijoules();
    drop(meter);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let miners: Api<Miner> = site.namespaced();
    let more = json!({"spec": {"replicas": 4}});
    miners.patch("miner", &PatchParams::default(), &Patch::Merge(&more)).await.unwrap();
    site.wait_for_miner("miner", "explained", |status| status["reason"] == "MeterStale").await;
    site.ai_job("training", 1, 2, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.wait_for_mining(2).await;
    assert_eq!(site.observer.started(), 2);
    let _meter = Meter::start(site, "reg", 300, counted);
    site.wait_for_mining(4).await;
}

#[apply(trial!)]
async fn an_owners_registrations_are_limited_together(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let owner = "ab".repeat(32);
    for name in ["one", "two"] {
        let spec = json!({
            "operator": {"ownerPseudonym": owner},
            "limits": {"gpus": 8}, "ownerLimits": {"gpus": 5},
        });
        site.filed_with(name, spec).await;
        site.approve(name);
        site.miner(name, name, 8, json!({})).await;
    }
    site.observer.cap_pool(&site.name, 5);
    site.start();
    site.wait_for_mining(5).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mining = site.mining().await;
    assert_eq!(mining.len(), 5);
    let of = |name: &str| {
        let labels =
            |pod: &&Pod| pod.labels().get("daylight.dev/registration").is_some_and(|of| of == name);
        mining.iter().filter(labels).count()
    };
    assert!(of("one") >= 2 && of("two") >= 2, "not shared: {} and {}", of("one"), of("two"));
    site.wait_for_miner("one", "explained", |status| status["reason"] == "OwnerGpuLimit").await;
    // One of them goes; the other may have all five.
    site.daylight(&["revoke", &site.key("one"), "-m", "gone", "--as", daylight_test_site::OFFICER]);
    eventually(Duration::from_mins(1), "the other one has all", || async {
        let mining = site.mining().await;
        let two =
            |pod: &Pod| pod.labels().get("daylight.dev/registration").is_some_and(|of| of == "two");
        (mining.len() == 5 && mining.iter().all(two)).then_some(())
    })
    .await;
}

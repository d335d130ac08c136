//! Two auditors of one cluster, of which one may only read, record the same.

use std::path::Path;
use std::time::Duration;

use daylight::auditor::journal::{Directory, Journal};
use daylight_ledger::SigningKey;
use daylight_test_site::program::{Process, command_fails};
use daylight_test_site::{OFFICER, SOON, Site, eventually};
use daylight_testbed::Exporters;
use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

use crate::EXPORTER;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/install/second-auditor.yaml");

/// The account that the manifest makes.
const ACCOUNT: &str = "system:serviceaccount:second-auditor:second-auditor";

/// Entries of a ledger, which is verified.
fn entries(site: &Site, ledger: &Path) -> Vec<Value> {
    let printed = site.daylight(&["ledger", "verify", "--print", ledger.to_str().unwrap()]);
    printed.lines().map(|entry| serde_json::from_str(entry).unwrap()).collect()
}

#[apply(trial!)]
async fn a_second_auditor_that_may_only_read_finds_what_the_first_one_changed(site: &mut Site) {
    // Its rights, without the pod that would use them.
    let manifest = std::fs::read_to_string(MANIFEST).unwrap();
    let is_access = |document: &&str| !document.contains("kind: StatefulSet");
    let access: Vec<&str> = manifest.split("\n---\n").filter(is_access).collect();
    site.control_plane.apply(&access.join("\n---\n")).await.unwrap();
    site.nodes(1).await;
    site.pool(json!({})).await;
    let exporters = Exporters::dcgm().refresh(Duration::from_secs(1));
    site.control_plane.create_exporters(&exporters).await.unwrap();
    site.registered("reg", json!({"gpus": 8})).await;
    let refused = ["auditor", "--read-only", "--data-dir", "/nowhere", "--ledger-key", "secret/k"];
    let refused = command_fails(&site.control_plane, &refused);
    assert!(refused.contains("Name files with --ledger-key"), "{refused}");

    let often = [&EXPORTER[..], &["--quiet-every", "5s"]].concat();
    let first =
        Process::auditor(&site.control_plane, &site.key_dash("first"), "journal-first", &often);
    let read_only = [&["--read-only", "--as", ACCOUNT], &often[..]].concat();
    let second = Process::auditor(
        &site.control_plane,
        &site.key_dash("second"),
        "journal-second",
        &read_only,
    );
    for auditor in [&first, &second] {
        eventually(SOON, "both have the node in their books", || async {
            (auditor.metric("daylight_metered_nodes", &["exporter"]).await? >= 1.0).then_some(())
        })
        .await;
    }
    site.start_with(&["--metered", "--record-after", "10m"]);
    site.miner("miner", "reg", 6, json!({})).await;
    site.wait_for_mining(6).await;
    site.ai_job("training", 1, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    // More than the margin below passes while both watch.
    let held = async |auditor: &Process| {
        let class = ["class=\"ai-training\""];
        auditor.metric("daylight_assigned_gpu_seconds_total", &class).await
    };
    for auditor in [&first, &second] {
        eventually(SOON, "it is booked", || async { (held(auditor).await? > 64.0).then_some(()) })
            .await;
    }
    site.daylight(&["stop", "-m", "test", "--as", OFFICER]);
    site.control_plane
        .kubectl_ok(["delete", "aijob", "training", "--namespace", &site.name])
        .await
        .unwrap();
    eventually(SOON, "the first one releases all pods", || async {
        site.pods("").await.is_empty().then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    first.terminate().await;
    let log = std::fs::read_to_string(&second.log).unwrap();
    second.terminate().await;
    assert!(!log.to_lowercase().contains("forbidden"), "{log}");

    let directory = |name: &str| site.control_plane.directory().join(name);
    let (ours, theirs) = (directory("journal-first"), directory("journal-second"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let diff = ["ledger", "diff", &text(&ours), &text(&theirs), "--margin", "3s", "-o", "json"];
    let same: Value = serde_json::from_str(&site.daylight(&diff)).unwrap();
    assert_eq!(same["leases"], json!([7, 7]), "{same}");
    assert!(same["watchedMs"].as_u64() > Some(8000), "{same}");

    // The owner of the first key makes a miner's lease shorter, and signs that.
    let mut changed = entries(site, &ours);
    let lease = changed.iter_mut().find_map(|entry| {
        let closed = entry.get_mut("closed")?.as_array_mut()?;
        closed.iter_mut().find(|one| one["lease"]["account"]["class"] == "pow-mining")
    });
    let lease = lease.unwrap();
    let uid = lease["lease"]["uid"].as_str().unwrap().to_owned();
    for side in ["earliest", "latest"] {
        lease["ended"][side] = json!(lease["ended"][side].as_i64().unwrap() - 3000);
    }
    let forged = directory("journal-forged");
    let key = std::fs::read_to_string(ours.with_extension("key")).unwrap();
    let key = SigningKey::parse(key.trim()).unwrap();
    let (mut journal, _) = Journal::open(Directory::take(&forged).unwrap(), key).unwrap();
    let changed: Vec<Vec<u8>> =
        changed.iter().map(|entry| serde_json::to_vec(entry).unwrap()).collect();
    journal.append(&changed, &[[]; 0], false).unwrap();
    journal.publish().unwrap();
    let diff = ["ledger", "diff", &text(&forged), &text(&theirs), "--margin", "3s"];
    let differs = command_fails(&site.control_plane, &diff);
    assert!(differs.contains(&format!("lease {uid} (entries ")), "{differs}");
    assert!(differs.contains("has an end "), "{differs}");
    site.daylight(&["resume", "-m", "test"]);
    super::metering::no_exporters(site).await;
}

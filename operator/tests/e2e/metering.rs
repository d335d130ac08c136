//! Every lease is on record, and nothing waits for the record.

use std::path::Path;
use std::time::{Duration, Instant};

use daylight_crds::{JOURNAL_FULL, LeaseRecord, Miner, Registration};
use daylight_ledger::SigningKey;
use daylight_test_site::program::{Process, command, get};
use daylight_test_site::{OFFICER, SOON, Site, eventually};
use daylight_testbed::Exporters;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

/// Keeps the pods of a test for its auditor.
const FOR_THE_AUDITOR: [&str; 3] = ["--metered", "--record-after", "10m"];

/// Reads exporters that refresh every second.
const EVERY_SECOND: [&str; 6] = [
    "--exporter",
    "gpu-operator/nvidia-dcgm-exporter:9400",
    "--exporter-refresh",
    "1s",
    "--scrape-every",
    "500ms",
];

/// The seconds that the auditor has booked for miners.
async fn mined(auditor: &Process) -> f64 {
    let class = ["class=\"pow-mining\""];
    auditor.metric("daylight_assigned_gpu_seconds_total", &class).await.unwrap_or_default()
}

/// From its binding to its end, in whole seconds, as Kubernetes reports it.
fn held_seconds(pod: &Pod) -> Option<i64> {
    let status = pod.status.as_ref()?;
    let bound = status.conditions.as_ref()?.iter().find(|one| one.type_ == "PodScheduled")?;
    let ended = status.container_statuses.as_ref()?.iter().filter_map(|container| {
        container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()
    });
    let ended = ended.map(|time| time.0.as_second()).max()?;
    Some(ended - bound.last_transition_time.as_ref()?.0.as_second())
}

/// The auditor is killed while miners run, and away while all of them end. What it books
/// afterwards is what Kubernetes reports of each of them, to the second, and no client had to wait.
#[apply(trial!)]
async fn leases_that_end_while_the_auditor_is_away_are_booked_exactly(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit-1"), "journal-1", &[]);
    eventually(SOON, "the auditor has the node in its books", || async {
        (auditor.metric("daylight_metered_nodes", &["count"]).await? >= 1.0).then_some(())
    })
    .await;
    site.start_with(&FOR_THE_AUDITOR);
    site.miner("miner", "reg", 8, json!({})).await;
    site.wait_for_mining(8).await;
    eventually(SOON, "mining is booked", || async { (mined(&auditor).await > 8.0).then_some(()) })
        .await;
    // The volume is lost, and a copy of it restored, which was begun while the auditor wrote it.
    let directory = |name: &str| site.control_plane.directory().join(name).display().to_string();
    let (journal, copy) = (directory("journal-1"), directory("copy-1"));
    let mirror = ["ledger", "mirror", &*journal, &*copy, "--with-secrets"];
    site.daylight(&mirror);
    auditor.kill().await;
    site.daylight(&mirror);
    std::fs::remove_dir_all(&journal).unwrap();
    let kept = directory("journal-1.key.checkpoint");
    let restore = ["ledger", "restore", &*copy, &*journal];
    match Path::new(&kept).exists() {
        true => site.daylight(&[&restore[..], &["--kept", &*kept]].concat()),
        false => site.daylight(&restore),
    };

    site.daylight(&["stop", "-m", "test", "--as", OFFICER]);
    let ended = eventually(SOON, "all miners have ended and wait for the auditor", || async {
        let pods = site.pods("daylight.dev/miner").await;
        let seconds: Vec<_> = pods.iter().filter_map(held_seconds).collect();
        (seconds.len() == 8).then_some(seconds)
    })
    .await;
    let held: i64 = ended.iter().sum();

    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit-2"), "journal-1", &[]);
    eventually(SOON, "it lets all of them go", || async {
        site.pods("daylight.dev/miner").await.is_empty().then_some(())
    })
    .await;
    eventually(SOON, "all of it is booked", || async {
        ((mined(&auditor).await - held as f64).abs() < 0.001).then_some(())
    })
    .await;
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));
    let records: Api<LeaseRecord> = site.namespaced();
    assert!(records.list(&ListParams::default()).await.unwrap().items.is_empty());

    // Nothing is counted twice after one more restart.
    let size = auditor.metric("daylight_audit_log_size", &[]).await.unwrap();
    auditor.terminate().await;
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit-3"), "journal-1", &[]);
    eventually(SOON, "it continues", || async {
        (auditor.metric("daylight_audit_log_size", &[]).await? > size).then_some(())
    })
    .await;
    assert!((mined(&auditor).await - held as f64).abs() < 0.001);
    auditor.terminate().await;
    site.daylight(&["ledger", "verify", &*journal]);
    site.daylight(&["resume", "-m", "test"]);
}

/// With AI and miners taking turns, device time adds up: devices x seconds.
#[apply(trial!)]
async fn device_time_adds_up(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 16})).await;
    let auditor = Process::auditor(&site.control_plane, &site.key_dash("audit"), "journal-2", &[]);
    site.start_with(&FOR_THE_AUDITOR);
    site.miner("miner", "reg", 16, json!({})).await;
    site.wait_for_mining(16).await;
    site.ai_job("training", 2, 4, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    let sum = |name: &'static str, labels: &'static [&'static str]| {
        let auditor = &auditor;
        async move { auditor.metric(name, labels).await.unwrap_or_default() }
    };
    eventually(Duration::from_mins(1), "AI, mining and idle time is booked", || async {
        let leased = sum("daylight_device_seconds_total", &["use=\"lease\""]).await;
        let training = sum("daylight_assigned_gpu_seconds_total", &["ai-training"]).await;
        (training > 8.0 && leased > 30.0).then_some(())
    })
    .await;
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));
    // The miners that AI displaced are on record, and gone.
    eventually(SOON, "nothing waits for the auditor", || async {
        let pods = site.pods("daylight.dev/miner").await;
        pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()).then_some(())
    })
    .await;
    site.wait_for_pool("metered", |status| {
        let conditions = status["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|one| one["type"] == "Metered" && one["status"] == "True")
    })
    .await;
    auditor.terminate().await;
}

#[apply(trial!)]
async fn ends_that_no_auditor_takes_are_written_down_and_hold_nothing_up(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 4, json!({})).await;
    site.start_with(&["--metered", "--record-after", "2s"]);
    site.wait_for_mining(4).await;
    let pods = site.mining().await;
    for pod in &pods {
        let finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
        assert_eq!(finalizers, ["daylight.dev/metered"]);
    }
    site.ai_job("training", 1, 8, json!({})).await;
    // The GPUs go over at once, whatever is not on record yet.
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    let records: Api<LeaseRecord> = site.namespaced();
    let written = eventually(SOON, "the four ends are written down", || async {
        let records = records.list(&ListParams::default()).await.unwrap().items;
        (records.len() == 4).then_some(records)
    })
    .await;
    for record in written {
        let spec = record.spec;
        let pod = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(&spec.pod_uid));
        assert_eq!(pod.unwrap().metadata.name.as_deref(), Some(&*spec.pod));
        assert_eq!((spec.resource.as_str(), spec.gpus), ("nvidia.com/gpu", 1));
        assert_eq!(spec.pool.as_deref(), Some(&*site.name));
        assert_eq!(spec.activity_class.as_deref(), Some("pow-mining"));
        assert_eq!((spec.registration.as_deref(), spec.watts), (Some("reg"), Some(300)));
        // Times are reported in whole seconds.
        let moments = [spec.bound_at, spec.started_at, spec.finished_at, Some(spec.seen_ended_at)];
        assert!(moments.iter().all(Option::is_some) && moments.is_sorted(), "{moments:?}");
    }
    eventually(SOON, "the pods are gone", || async {
        site.pods("daylight.dev/miner").await.is_empty().then_some(())
    })
    .await;
}

/// The disk of the journal is full. What happens is kept in memory first; then no miner is started
/// any more, while AI continues. With room again, all of it is booked.
#[apply(trial!)]
async fn a_full_disk_stops_grants_and_loses_nothing(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let auditor = Process::auditor(
        &site.control_plane,
        &site.key_dash("audit"),
        "journal-4",
        &["--memory", "2Ki"],
    );
    site.start_with(&FOR_THE_AUDITOR);
    site.miner("miner", "reg", 2, json!({})).await;
    site.wait_for_mining(2).await;
    let is_metered = |status: &Value, value: &str, reason: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let said = |one: &Value| {
            one["type"] == "Metered" && one["status"] == value && one["reason"] == reason
        };
        conditions.into_iter().any(said)
    };
    site.wait_for_pool("metered", |status| is_metered(status, "True", "Metering")).await;

    auditor.fill_disk();
    site.wait_for_pool("explained", |status| is_metered(status, "False", JOURNAL_FULL)).await;
    let miners: Api<Miner> = site.namespaced();
    let more = Patch::Merge(json!({"spec": {"replicas": 8}}));
    miners.patch("miner", &PatchParams::default(), &more).await.unwrap();
    site.wait_for_miner("miner", "explained", |status| status["reason"] == JOURNAL_FULL).await;
    site.ai_job("training", 1, 7, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    site.wait_for_mining(1).await;
    let ended = eventually(SOON, "the miner that made way has ended", || async {
        site.pods("daylight.dev/miner").await.iter().find_map(held_seconds)
    })
    .await;
    let size = auditor.metric("daylight_audit_log_size", &[]).await.unwrap();

    auditor.free_disk();
    site.wait_for_pool("metered again", |status| is_metered(status, "True", "Metering")).await;
    eventually(SOON, "the end is on record and its pod is gone", || async {
        (site.pods("daylight.dev/miner").await.len() == 1).then_some(())
    })
    .await;
    let training = ["class=\"ai-training\""];
    eventually(SOON, "what happened meanwhile is booked", || async {
        let grown = auditor.metric("daylight_audit_log_size", &[]).await? > size;
        let trained = auditor.metric("daylight_assigned_gpu_seconds_total", &training).await?;
        (grown && mined(&auditor).await >= ended as f64 && trained > 7.0).then_some(())
    })
    .await;
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));
    // What was written before and after is read whole.
    auditor.kill().await;
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit-2"), "journal-4", &[]);
    eventually(SOON, "it continues", || async {
        (mined(&auditor).await >= ended as f64).then_some(())
    })
    .await;
    auditor.terminate().await;
}

/// The auditor hangs: miners under an energy limit stay as many as they are, since it is not known
/// what more of them would use; AI continues.
#[apply(trial!)]
async fn an_auditor_that_hangs_holds_metered_mining_and_not_ai(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let exporters = Exporters::dcgm().refresh(Duration::from_secs(1));
    site.control_plane.create_exporters(&exporters).await.unwrap();
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit"), "journal-5", &EVERY_SECOND);
    let limits = json!({"gpus": 8, "energy": {"kwh": 1_000, "period": "Year"}});
    site.registered("reg", limits).await;
    let stale = ["--meter-stale", "5s"];
    site.start_with(&[&FOR_THE_AUDITOR[..], &stale].concat());
    site.miner("miner", "reg", 2, json!({})).await;
    site.wait_for_mining(2).await;

    auditor.pause();
    tokio::time::sleep(Duration::from_secs(7)).await;
    let miners: Api<Miner> = site.namespaced();
    let more = Patch::Merge(json!({"spec": {"replicas": 4}}));
    miners.patch("miner", &PatchParams::default(), &more).await.unwrap();
    site.wait_for_miner("miner", "explained", |status| status["reason"] == "MeterStale").await;
    site.ai_job("training", 1, 2, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    site.wait_for_mining(2).await;

    auditor.resume();
    site.wait_for_mining(4).await;
    auditor.terminate().await;
    no_exporters(site).await;
}

/// The entries of a journal, which is verified.
fn entries(site: &Site, journal: &str) -> Vec<Value> {
    let journal = site.control_plane.directory().join(journal);
    let printed = site.daylight(&["ledger", "verify", "--print", journal.to_str().unwrap()]);
    printed.lines().map(|entry| serde_json::from_str(entry).unwrap()).collect()
}

/// What the journal says of a registration, in order: generation, edits that were not seen, and how
/// the auditor found it. No entry names its tenant.
fn recorded_of(
    site: &Site,
    journal: &str,
    registration: &Registration,
) -> Vec<(String, u64, String)> {
    let entries = entries(site, journal);
    for entry in &entries {
        let entry = entry.to_string();
        let names = [site.key("reg"), format!("\"namespace\":\"{}\"", site.name)];
        assert!(names.iter().all(|name| !entry.contains(name)), "{entry}");
        assert!(!entry.contains(OFFICER), "{entry}");
    }
    let lives = entries.iter().filter(|entry| entry["kind"] == "auditor");
    let lives: Vec<_> = lives.map(|entry| entry["event"].as_str().unwrap()).collect();
    assert!(lives.chunks(2).all(|life| life == ["started", "stopped"]), "{lives:?}");
    assert!(!lives.is_empty());
    let uid = registration.metadata.uid.as_deref().unwrap();
    let of_it = entries.iter().filter(|entry| entry["kind"] == "object" && entry["uid"] == uid);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    of_it
        .map(|entry| {
            let unseen = text(&entry["unseen"]).map_or(0, |unseen| unseen.parse().unwrap());
            (text(&entry["generation"]).unwrap(), unseen, text(&entry["standing"]).unwrap())
        })
        .collect()
}

#[apply(trial!)]
async fn edits_that_nobody_saw_are_on_record(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let registration = site.filed("reg", json!({"gpus": 8})).await;
    let secret = format!("secret/{}", site.key_dash("ledger-key"));
    let kept = format!("configmap/{}", site.key_dash("ledger"));
    let flags = ["--ledger-key", &*secret, "--ledger-checkpoint", &*kept];
    let start = |name: &str| {
        Process::auditor(&site.control_plane, &site.key_dash(name), "journal-6", &flags)
    };
    let auditor = start("audit-1");
    let grown = async |auditor: &Process, size: f64| {
        eventually(SOON, "the journal grows", || async {
            let now = auditor.metric("daylight_audit_log_size", &[]).await?;
            (now > size).then_some(now)
        })
        .await
    };
    let size = grown(&auditor, 0.0).await;
    site.approve("reg");
    grown(&auditor, size).await;
    auditor.terminate().await;
    let journal = site.control_plane.directory().join("journal-6");
    let older = journal.with_extension("older");
    copy(&journal, &older);

    let registrations: Api<Registration> = site.namespaced();
    for gpus in [7, 6, 5] {
        let edit = Patch::Merge(json!({"spec": {"limits": {"gpus": gpus}}}));
        registrations.patch("reg", &PatchParams::default(), &edit).await.unwrap();
    }
    let auditor = start("audit-2");
    eventually(SOON, "two of the edits are missed", || async {
        let unseen = auditor.metric("daylight_unseen_edits_total", &["Registration"]).await?;
        (unseen as u64 == 2).then_some(())
    })
    .await;
    // What it signed last is kept outside of its volume.
    auditor.terminate().await;

    // The older state of the journal, without the checkpoint that shows it.
    let newer = journal.with_extension("newer");
    std::fs::rename(&journal, &newer).unwrap();
    std::fs::rename(&older, &journal).unwrap();
    std::fs::remove_file(journal.join("checkpoint")).unwrap();
    let log = start("audit-3").failed().await;
    let refused = format!(
        "the journal does not continue the checkpoint that ConfigMap {} keeps: it has",
        site.key_dash("ledger")
    );
    assert!(log.contains(&refused) && log.contains("it is an old copy"), "{log}");
    assert!(!journal.join("checkpoint").exists(), "it is not signed");
    // The newest one continues.
    std::fs::rename(&journal, &older).unwrap();
    std::fs::rename(&newer, &journal).unwrap();
    let auditor = start("audit-4");
    let size = grown(&auditor, 0.0).await;
    grown(&auditor, size).await;
    auditor.terminate().await;
    let recorded = recorded_of(site, "journal-6", &registration);
    let recorded: Vec<_> =
        recorded.iter().map(|(at, unseen, is)| (&**at, *unseen, &**is)).collect();
    assert_eq!(recorded, [("1", 0, "Pending"), ("1", 0, "Active"), ("4", 2, "Changed")]);
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// One miner of an image that is trusted to have seen its shares taken, and one of another.
#[apply(trial!)]
async fn what_miners_say_of_their_work_is_booked_as_seen_or_claimed(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let auditor = Process::auditor(
        &site.control_plane,
        &site.key_dash("audit"),
        "journal-7",
        &["--agent-images", "registry.example.com/daylight-miner:*", "--close-every", "1s"],
    );
    site.start_with(&FOR_THE_AUDITOR);
    let said = json!({
        "daylight.dev/work": "v1", "sharesAccepted": "7", "sharesRejected": 1,
        "hashes": "9000000000", "evidence": "seen",
    });
    for (name, image) in [("agent", "daylight-miner:1"), ("other", "miners/kaspa:1")] {
        let miner = json!({
            "metadata": {"name": name, "annotations": {
                "daylight.dev/simulated-termination-message": said.to_string(),
            }},
            "spec": {
                "registration": "reg", "replicas": 2, "wattsPerReplica": 300,
                "image": format!("registry.example.com/{image}"), "drainTimeout": "1s",
            },
        });
        daylight_test_site::create(&site.namespaced::<Miner>(), miner).await;
    }
    site.wait_for_mining(4).await;
    let namespace = format!("namespace=\"{}\"", site.name);
    eventually(SOON, "time is booked", || async {
        let seconds = auditor.metric("daylight_assigned_gpu_seconds_total", &[&namespace]).await?;
        (seconds > 1.0).then_some(())
    })
    .await;
    site.daylight(&["stop", "-m", "test", "--as", OFFICER]);
    let recorded = async |evidence: &'static str| {
        let of = [&*namespace, evidence];
        let accepted = [&*namespace, evidence, "result=\"accepted\""];
        let hashes = auditor.metric("daylight_miner_hashes_total", &of).await?;
        let shares = auditor.metric("daylight_miner_shares_total", &accepted).await?;
        Some((shares as u64, hashes as u64))
    };
    for evidence in ["seen", "claimed"] {
        eventually(SOON, "both miners' work is booked", || async {
            (recorded(evidence).await? == (14, 18_000_000_000)).then_some(())
        })
        .await;
    }
    auditor.terminate().await;
    site.daylight(&["resume", "-m", "test"]);
    the_registration_checks_its_own_figures(site, "journal-7");
}

/// With the proof alone, which names no other account.
fn the_registration_checks_its_own_figures(site: &Site, journal: &str) {
    let journal = site.control_plane.directory().join(journal);
    let (proof, source) = (journal.join("proof"), journal.to_str().unwrap());
    let verified = site.daylight(&["ledger", "verify", source, "-o", "json"]);
    let verified: Value = serde_json::from_str(&verified).unwrap();
    let closings = verified["closings"].as_u64().unwrap();
    assert!(closings > 1, "{verified}");
    let proof = proof.to_str().unwrap();
    let registration = format!("{}/reg", site.name);
    let key = std::fs::read_to_string(journal.with_extension("key")).unwrap();
    let key = SigningKey::parse(key.trim()).unwrap().verifier().to_string();
    let prove = ["ledger", "prove", source, "--registration", &registration, "--proof", proof];
    site.daylight(&prove);
    // The last closing may have less than a second of it, and closings before the first lease nothing.
    let mut most = [0, 0];
    for closing in 1..=closings {
        let closing = closing.to_string();
        let prove = [&prove[..], &["--closing", &closing]].concat();
        if !command(&site.control_plane, &prove).status.success() {
            continue;
        }
        let checked = site.daylight(&["ledger", "check", proof, "--key", &key, "-o", "json"]);
        let checked: Value = serde_json::from_str(&checked).unwrap();
        let accounts = checked["accounts"].as_array().unwrap();
        for (most, seconds) in most.iter_mut().zip(["gpuSeconds", "podSeconds"]) {
            *most = accounts.iter().filter_map(|it| it[seconds].as_u64()).fold(*most, u64::max);
        }
    }
    assert!(most.iter().all(|seconds| *seconds > 0), "{most:?} seconds of GPUs and pods");
}

/// A pod of another owner carries no finalizer: it ends and goes while the auditor is away. Its end
/// lies somewhere in between, and the bounds and a gap say so.
#[apply(trial!)]
async fn a_foreign_pod_that_ends_unseen_is_bounded(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let start =
        |name: &str| Process::auditor(&site.control_plane, &site.key_dash(name), "journal-9", &[]);
    let auditor = start("audit-1");
    let pods: Api<Pod> = site.namespaced();
    let pod = json!({
        "metadata": {"name": "foreign", "labels": {"daylight.dev/activity": "ai-training"}},
        "spec": {"containers": [{
            "name": "train", "image": "registry.example.com/train:1",
            "resources": {"limits": {"nvidia.com/gpu": "4"}},
        }]},
    });
    daylight_test_site::create(&pods, pod).await;
    let namespace = format!("namespace=\"{}\"", site.name);
    let held = async |auditor: &Process| {
        auditor.metric("daylight_assigned_gpu_seconds_total", &[&namespace]).await
    };
    eventually(SOON, "it is booked", || async { (held(&auditor).await? > 4.0).then_some(()) })
        .await;
    auditor.kill().await;
    let away = Instant::now();
    pods.delete("foreign", &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually(SOON, "it is gone", || async {
        pods.get_opt("foreign").await.unwrap().is_none().then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let auditor = start("audit-2");
    let bounds = eventually(SOON, "its end is bounded", || async {
        let bound = async |side: &str| {
            let side = format!("side=\"{side}\"");
            auditor.metric("daylight_time_error_bound_seconds", &[&*namespace, &*side]).await
        };
        let bounds = (bound("below").await?, bound("above").await?);
        // Four GPUs for three seconds at least.
        (bounds.0 + bounds.1 >= 12.0).then_some(bounds)
    })
    .await;
    let most = 4.0 * (away.elapsed().as_secs_f64() + 10.0);
    assert!(bounds.0 + bounds.1 <= most, "{bounds:?}, {most}");
    let before = held(&auditor).await.unwrap();
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));
    auditor.terminate().await;
    let entries = entries(site, "journal-9").into_iter();
    let gaps = entries.filter_map(|entry| entry["gaps"].as_array().cloned()).flatten();
    let gaps: Vec<Value> = gaps.collect();
    assert!(gaps.iter().any(|gap| gap["what"] == "unseen"), "{gaps:?}");
    assert!(before >= 4.0);
}

/// Agents are asked while they run. Their node is lost, and with it their last words: what they had
/// recorded before is booked.
#[apply(trial!)]
async fn a_node_that_is_lost_takes_little_of_its_miners_work_along(site: &mut Site) {
    let node = site.nodes(1).await.remove(0);
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let agents = ["--agent-images", "registry.example.com/daylight-miner:*", "--agent-every", "1s"];
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit"), "journal-8", &agents);
    site.start_with(&FOR_THE_AUDITOR);
    let said = "daylight_miner_info{evidence=\"seen\"} 1\n\
        daylight_miner_hashes_total 9000000000\n\
        daylight_miner_shares_total{result=\"accepted\"} 7\n\
        daylight_miner_shares_total{result=\"stale\"} 1\n";
    let miner = json!({
        "metadata": {"name": "agent", "annotations": {"daylight.dev/simulated-metrics": said}},
        "spec": {
            "registration": "reg", "replicas": 2, "wattsPerReplica": 300,
            "image": "registry.example.com/daylight-miner:1", "drainTimeout": "1s",
        },
    });
    daylight_test_site::create(&site.namespaced::<Miner>(), miner).await;
    site.wait_for_mining(2).await;
    // They are asked within a second of being seen.
    eventually(SOON, "both are booked", || async { (mined(&auditor).await > 8.0).then_some(()) })
        .await;
    site.control_plane.kubectl_ok(["delete", "node", &node]).await.unwrap();
    eventually(Duration::from_mins(2), "their work is booked", || async {
        let namespace = format!("namespace=\"{}\"", site.name);
        let labels = [&*namespace, "evidence=\"seen\"", "result=\"accepted\""];
        let shares = auditor.metric("daylight_miner_shares_total", &labels).await?;
        (shares as u64 == 14).then_some(())
    })
    .await;
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));
    auditor.terminate().await;
}

pub(crate) async fn no_exporters(site: &Site) {
    let exporters = ["delete", "daemonset", "--namespace", "gpu-operator", "nvidia-dcgm-exporter"];
    site.control_plane.kubectl_ok(exporters).await.unwrap();
}

/// What the counters of a node's devices stand at, in millijoules.
async fn counters(site: &Site, exporters: &Exporters, node: &str) -> f64 {
    let url = site.control_plane.exporter_url(exporters, node).await.unwrap();
    let address = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    let text = get(address, "/metrics").await.unwrap().1;
    let lines =
        text.lines().filter(|line| line.starts_with("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// Eight miners declare 300 watts and draw twenty kilowatts each, which uses up a kilowatt-hour in 22
/// seconds. Mining ends before that; what the devices' own counters say is the proof. AI continues.
#[apply(trial!)]
async fn mining_stops_before_a_kwh_cap_could_be_passed(site: &mut Site) {
    let node = site.nodes(1).await.remove(0);
    let exporters = Exporters::dcgm().refresh(Duration::from_secs(1));
    site.control_plane.create_exporters(&exporters).await.unwrap();
    let flags = [&EVERY_SECOND[..], &["--device-watts", "21000", "--quiet-every", "2s"]].concat();
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit"), "journal-3", &flags);
    eventually(SOON, "the devices are read", || async {
        (auditor.metric("daylight_metered_nodes", &["exporter"]).await? >= 1.0).then_some(())
    })
    .await;
    site.pool(json!({})).await;
    let cap = json!({"gpus": 8, "energy": {"kwh": 1, "period": "Year"}});
    site.registered("reg", cap).await;
    site.start_with(&FOR_THE_AUDITOR);
    let before = counters(site, &exporters, &node).await;
    let miner = json!({
        "metadata": {"name": "miner", "annotations": {
            "daylight.dev/simulated-drain-time": "200ms",
            "daylight.dev/simulated-watts": "20000",
        }},
        "spec": {
            "registration": "reg", "replicas": 8, "image": "registry.example.com/miners/kaspa:1",
            "drainTimeout": "1s", "wattsPerReplica": 300,
        },
    });
    daylight_test_site::create(&site.namespaced::<daylight_crds::Miner>(), miner).await;
    eventually(SOON, "it mines", || async { (!site.mining().await.is_empty()).then_some(()) })
        .await;
    site.ai_job("training", 1, 1, json!({})).await;
    site.wait_for_mining(0).await;
    let why =
        site.wait_for_miner("miner", "explained", |status| status["reason"].is_string()).await;
    println!("{}", why["message"]);
    // Nothing begins again, whatever is read from now on.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(site.mining().await.len(), 0);
    let used = counters(site, &exporters, &node).await - before;
    let cap = 3_600_000_000.0;
    assert!(used <= cap, "the cap of {cap} mJ is passed: the counters moved {used}");
    println!("{:.0}% of the cap were used", 100.0 * used / cap);
    assert!(used >= cap / 20.0, "they hardly mined: {used} of {cap} mJ");
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    a_job_that_is_interrupted_has_a_receipt(site, &auditor, "journal-3").await;
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));

    // An exporter that fails is named, until it is read again.
    let faults = "daylight.dev/simulated-exporter-faults";
    let metered = |status: &Value| -> Option<Value> {
        let conditions = status["conditions"].as_array()?;
        conditions.iter().find(|one| one["type"] == "Metered").cloned()
    };
    let pool = format!("pool=\"{}\"", site.name);
    let pool = [&*pool];
    assert_eq!(auditor.metric("daylight_unread_gpus", &pool).await, Some(0.0));
    site.control_plane.annotate_node(&node, faults, Some("error")).await.unwrap();
    let status = site
        .wait_for_pool("not metered", |status| {
            metered(status).is_some_and(|one| one["reason"] == "EnergyUnread")
        })
        .await;
    let message = metered(&status).unwrap()["message"].to_string();
    assert!(message.contains("8 of 8 GPUs") && message.contains(&node), "{message}");
    assert!(message.contains("the answer is 500 Internal Server Error"), "{message}");
    // A round of metrics is left out while a scrape is answered.
    eventually(SOON, "the metric follows", || async {
        (auditor.metric("daylight_unread_gpus", &pool).await == Some(8.0)).then_some(())
    })
    .await;
    site.control_plane.annotate_node(&node, faults, None).await.unwrap();
    site.wait_for_pool("metered again", |status| {
        metered(status).is_some_and(|one| one["status"] == "True")
    })
    .await;
    auditor.terminate().await;
    no_exporters(site).await;
}

/// Its only worker is evicted, and another one runs to its end. The receipt has both, from the served ledger
/// and the job in the cluster; it is verified without either.
async fn a_job_that_is_interrupted_has_a_receipt(site: &Site, auditor: &Process, journal: &str) {
    let pods: Api<Pod> = site.namespaced();
    let worker = async |other: &str| {
        eventually(SOON, "a worker runs", || async {
            let workers = site.pods("daylight.dev/aijob=training").await;
            workers.into_iter().find(|pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                phase == Some("Running")
                    && pod.metadata.deletion_timestamp.is_none()
                    && pod.name_any() != other
            })
        })
        .await
    };
    let first = worker("").await;
    // No image is pulled on a simulated node.
    let digest = format!("sha256:{}", "5f".repeat(32));
    let mut containers = first.status.clone().unwrap().container_statuses.unwrap();
    containers[0].image_id = format!("registry.example.com/train@{digest}");
    let patch = json!({"status": {"containerStatuses": containers}});
    let parameters = PatchParams::default();
    pods.patch_status(&first.name_any(), &parameters, &Patch::Merge(patch)).await.unwrap();
    pods.evict(&first.name_any(), &EvictParams::default()).await.unwrap();
    let second = worker(&first.name_any()).await;
    let ends = json!({"metadata": {"annotations": {"daylight.dev/simulated-run-time": "2s"}}});
    pods.patch(&second.name_any(), &parameters, &Patch::Merge(ends)).await.unwrap();
    site.wait_for_job("training", "succeeded", |status| status["state"] == "Succeeded").await;

    let directory = site.control_plane.directory();
    let key = std::fs::read_to_string(directory.join(format!("{journal}.key"))).unwrap();
    let key = SigningKey::parse(key.trim()).unwrap().verifier().to_string();
    let served = format!("http://{}/ledger", auditor.listen);
    let job = format!("{}/training", site.name);
    let of_job = ["receipt", &*job, "--ledger", &*served, "--key", &*key, "-o", "json"];
    let receipt = eventually(SOON, "its energy is read to its end", || async {
        let output = command(&site.control_plane, &of_job);
        let receipt: Value = serde_json::from_slice(&output.stdout).ok()?;
        (receipt["pods"].as_array()?.len() == 2 && receipt["unsettled"] == "0").then_some(receipt)
    })
    .await;
    assert_eq!(receipt["outcomes"], json!({"disrupted": 1, "succeeded": 1}), "{receipt:#}");
    assert_eq!(receipt["interruptedPods"], "1", "{receipt:#}");
    let images = json!([{"digest": digest}, {"requested": "registry.example.com/train:1"}]);
    assert_eq!(receipt["images"], images, "{receipt:#}");
    // The exporter's labels name the device of each pod.
    let devices = receipt["devices"].as_array().unwrap();
    let named = devices.iter().filter(|device| device["certain"] == true);
    assert!(named.clone().count() > 0, "{receipt:#}");
    assert!(named.clone().all(|device| device["model"] == "NVIDIA H100 80GB HBM3"), "{receipt:#}");
    let whole = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let held = pods.get_opt(&second.name_any()).await.unwrap();
    let held = u64::try_from(held.as_ref().and_then(held_seconds).unwrap_or(2)).unwrap();
    let [value, above] = ["value", "above"].map(|part| whole(&receipt["gpuMs"][part]));
    assert!(value >= held * 1000, "{receipt:#}");
    assert!(above <= 2 * 2000, "seconds in which it began and ended: {receipt:#}");
    let measured: u64 = receipt["energy"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["method"] != "declared")
        .map(|line| whole(&line["mj"]["value"]))
        .sum();
    assert!(measured > 0, "{receipt:#}");

    // By its name under the pseudonyms' key, with proofs, which are enough afterwards.
    let ledger = directory.join(journal);
    let (ledger, out) = (ledger.to_str().unwrap(), directory.join("receipt"));
    let out = out.to_str().unwrap();
    site.daylight(&["receipt", &job, "--ledger", ledger, "--key", &key, "--out", out]);
    let verified = site.daylight(&["receipt", "verify", out, "--key", &key]);
    assert!(verified.contains("1 disrupted, 1 succeeded"), "{verified}");
    site.daylight(&["receipt", "verify", out, &served, "--key", &key]);
    for file in std::fs::read_dir(out).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains(&job), "{text}");
    }
}

/// The auditor's clock jumps ahead by a month: the books do not follow it. One that starts with such a
/// clock books nothing, and the pool says why.
#[apply(trial!)]
async fn a_clock_that_is_a_month_ahead_books_nothing_of_it(site: &mut Site) {
    const MONTH: i64 = 30 * 24 * 3600;
    site.nodes(1).await;
    site.pool(json!({})).await;
    let flags = ["--admission-mode", "Audit"];
    let name = site.key_dash("audit");
    let auditor = Process::auditor(&site.control_plane, &name, "journal-clock", &flags);
    let booked = |auditor: &Process| {
        let listen = auditor.listen.clone();
        async move {
            let (_, text) = get(&listen, "/metrics").await?;
            let line = text.lines().find(|line| line.starts_with("daylight_booked_until"))?;
            line.rsplit(' ').next()?.parse::<f64>().ok().filter(|at| *at > 0.0)
        }
    };
    let before = eventually(SOON, "time is booked", || booked(&auditor)).await;
    auditor.set_clock(MONTH);
    let after = eventually(SOON, "time continues", || async {
        booked(&auditor).await.filter(|at| *at > before + 3.0)
    })
    .await;
    assert!(after < before + 60.0, "{before} {after}");
    auditor.kill().await;

    let auditor = Process::auditor(&site.control_plane, &name, "journal-clock", &flags);
    let differs = |status: &Value| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut differs = conditions.filter(|one| one["reason"] == "ClockDiffers");
        differs.any(|one| one["message"].as_str().unwrap().contains("ahead of the API server's"))
    };
    site.wait_for_pool("explained", differs).await;
    auditor.set_clock(0);
    site.wait_for_pool("metered", |status| !differs(status)).await;
    auditor.terminate().await;
}

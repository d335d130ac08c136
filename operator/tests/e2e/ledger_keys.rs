//! The key that signs the ledger is replaced, and lost.

use daylight_ledger::SigningKey;
use daylight_test_site::program::{Process, command_fails};
use daylight_test_site::{SOON, Site, eventually};
use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

/// Waits until an auditor has booked device time in addition to that of its predecessor, and ends it.
/// Returns all of it, in seconds.
async fn books_more(auditor: Process) -> f64 {
    let idle = async || auditor.metric("daylight_device_seconds_total", &["use=\"idle\""]).await;
    let begun = eventually(SOON, "the books are there", || async { idle().await }).await;
    let seconds = eventually(SOON, "device time is booked", || async {
        idle().await.filter(|seconds| *seconds > begun)
    })
    .await;
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));
    auditor.terminate().await;
    seconds
}

#[apply(trial!)]
async fn a_ledger_outlives_its_key(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let path = |name: &str| site.control_plane.directory().join(name).display().to_string();
    let [journal, both] = [path("journal-keys"), path("journal-keys.both")];
    let [old, new] = [path("journal-keys.old"), path("journal-keys.new")];
    let kept = format!("{old}.checkpoint");
    let start = |name: &str, keys: &[&str]| {
        let flags = [&["--ledger-checkpoint", &*kept], keys].concat();
        Process::auditor(&site.control_plane, &site.key_dash(name), "journal-keys", &flags)
    };
    let first = start("key-1", &["--ledger-key", &old]);
    let mut seconds = vec![books_more(first).await];
    let second = start("key-2", &["--ledger-key", &old, "--ledger-next-key", &new]);
    seconds.push(books_more(second).await);
    std::fs::copy(format!("{journal}/checkpoint"), &both).unwrap();
    let third = start("key-3", &["--ledger-key", &new]);
    seconds.push(books_more(third).await);
    let public = |path: &str| {
        let key = std::fs::read_to_string(path).unwrap();
        SigningKey::parse(key.trim()).unwrap().verifier().to_string()
    };
    // The new key alone signs now. Who knows the old one follows it from the time in which both did.
    site.daylight(&["ledger", "verify", &journal, "--key", &public(&new)]);
    let with_old = ["ledger", "verify", &*journal, "--key", &*public(&old)];
    let untrusted = command_fails(&site.control_plane, &with_old);
    assert!(untrusted.contains("The checkpoint is not trusted"), "{untrusted}");
    let followed = site.daylight(&[&with_old[..], &["--since", &both]].concat());
    assert!(followed.contains(&format!("Signed by {}", public(&new))), "{followed}");
    // So does who has a report with the proof of it, and no copy of the ledger.
    let (report, year) = (path("report"), jiff::Timestamp::now().strftime("%Y").to_string());
    let of_year = ["report", &journal, "--period", &year, "--out", &report];
    let signed = ["--key", &public(&new), "--since", &both];
    site.daylight(&[&of_year[..], &signed].concat());
    let verified = site.daylight(&["report", "verify", &report, "--key", &public(&old)]);
    assert!(verified.contains(&format!("Signed by {}", public(&new))), "{verified}");
    // The old key alone starts no auditor any more.
    let log = start("key-4", &["--ledger-key", &old]).failed().await;
    assert!(log.contains("the journal is signed by the key"), "{log}");

    // The new one is lost, too: the books continue in a ledger of another name.
    let continued = path("journal-continued");
    let auditor = Process::auditor(
        &site.control_plane,
        &site.key_dash("key-5"),
        "journal-continued",
        &["--continues", &journal, "--ledger-checkpoint", &kept],
    );
    seconds.push(books_more(auditor).await);
    assert!(seconds.is_sorted(), "{seconds:?}");
    let verified = ["ledger", "verify", &*continued, "-o", "json"];
    let verified: Value = serde_json::from_str(&site.daylight(&verified)).unwrap();
    let name = |key: String| key.split('+').next().unwrap().to_owned();
    assert_eq!(verified["continued"]["origin"], json!(name(public(&old))), "{verified}");
    assert_ne!(verified["origin"], verified["continued"]["origin"]);
    let before = site.daylight(&["ledger", "verify", &journal, "-o", "json"]);
    let before: Value = serde_json::from_str(&before).unwrap();
    assert_eq!(verified["continued"]["books"], before["entries"], "{verified}");
}

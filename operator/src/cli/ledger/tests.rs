use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use daylight_base::{Name, Timestamp};
use daylight_ledger::{Entries, SigningKey, push_entry};
use daylight_meter::{
    Account, Config, Entry, Meter, Moment, ObservedDevice, ObservedLease, Requested,
};
use prometheus::Registry;
use tempfile::TempDir;

use super::sample::{key, text_of as text};
use super::*;
use crate::auditor::batch::Batch;
use crate::auditor::journal::{Directory, Journal};
use crate::auditor::pseudonyms::Pseudonyms;
use crate::entries::EntryWriter;
use crate::serving::{Health, ScrapeLock, Served, router};
use crate::witness;

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    ledger: Ledger,
}

/// Runs `daylight ledger …`. Returns the failure as JSON.
fn ledger(words: &[&str]) -> Result<(), String> {
    let words = Words::try_parse_from([&["ledger"], words].concat()).unwrap();
    run(&words.ledger).map_err(|error| error.json())
}

fn entry(number: u64) -> String {
    format!("{{\"entry\":\"{number}\"}}")
}

/// Continues the ledger in a directory up to this number of entries.
fn write(directory: &Path, entries: u64) {
    let (mut journal, _) = Journal::open(Directory::take(directory).unwrap(), key()).unwrap();
    let new: Vec<String> = (journal.size()..entries).map(entry).collect();
    journal.append(&new, &["state"], false).unwrap();
    journal.publish().unwrap();
}

/// Writes a ledger of other entries, signed by the same key.
fn write_entries(directory: &Path, entries: &[String]) {
    let (mut journal, _) = Journal::open(Directory::take(directory).unwrap(), key()).unwrap();
    journal.append(entries, &["state"], false).unwrap();
    journal.publish().unwrap();
}

fn copy(of: &Path) -> TempDir {
    fn into(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let path = file.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() {
                into(&path, &to);
            } else {
                fs::copy(&path, &to).unwrap();
            }
        }
    }
    let copy = tempfile::tempdir().unwrap();
    into(of, copy.path());
    copy
}

#[test]
fn a_ledger_is_verified_with_its_key_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let source = text(directory.path());
    assert!(ledger(&["verify", source]).unwrap_err().contains(r#""code":"NoLedger""#));
    write(directory.path(), 600);
    let public = key().verifier().to_string();
    ledger(&["verify", source]).unwrap();
    ledger(&["verify", source, "--key", &public]).unwrap();
    let other = SigningKey::from_seed("example.com/ledger", [8; 32]).unwrap().verifier();
    let error = ledger(&["verify", source, "--key", &other.to_string()]).unwrap_err();
    assert!(error.contains(r#""code":"LedgerInvalid""#), "{error}");

    let policy = directory.path().join("policy");
    fs::write(&policy, format!("log {public}\nquorum none\n")).unwrap();
    ledger(&["verify", source, "--policy", text(&policy)]).unwrap();
    fs::write(&policy, "nonsense").unwrap();
    let error = ledger(&["verify", source, "--policy", text(&policy)]).unwrap_err();
    assert!(error.contains(r#""code":"Invalid""#), "{error}");
}

/// Changes that someone makes who can write the files, and has no key.
#[test]
fn every_change_of_a_copy_is_found() {
    let original = tempfile::tempdir().unwrap();
    write(original.path(), 520);
    let public = key().verifier().to_string();
    let verify = |copy: &TempDir| ledger(&["verify", text(copy.path()), "--key", &public]);
    let change = |path: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let copy = copy(original.path());
        let file = copy.path().join(path);
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        fs::write(&file, bytes).unwrap();
        verify(&copy)
    };
    change("checkpoint", &|_| {}).unwrap();
    let files = ["checkpoint", "tile/entries/000", "tile/entries/002", "tile/0/001", "tile/1/000"];
    for path in files {
        let length = fs::read(original.path().join(path)).unwrap().len();
        for at in (0..length).step_by(length.div_ceil(16)) {
            assert!(change(path, &|bytes| bytes[at] ^= 1).is_err(), "byte {at} of {path}");
        }
        assert!(change(path, &|bytes| bytes.truncate(length - 1)).is_err(), "{path} is cut");
    }
    let entries = |bundle: &[u8]| -> Vec<Vec<u8>> {
        Entries::new(bundle).map(|entry| entry.unwrap().to_vec()).collect()
    };
    let bundle = |entries: Vec<Vec<u8>>| {
        let mut bundle = Vec::new();
        entries.iter().for_each(|entry| push_entry(&mut bundle, entry).unwrap());
        bundle
    };
    let rearranged = |change_entries: &dyn Fn(&mut Vec<Vec<u8>>)| {
        change("tile/entries/001", &|bytes| {
            let mut all = entries(bytes);
            change_entries(&mut all);
            *bytes = bundle(all);
        })
    };
    assert!(rearranged(&|all| all.swap(3, 4)).is_err());
    assert!(rearranged(&|all| drop(all.remove(3))).is_err());
    assert!(rearranged(&|all| all.insert(3, all[3].clone())).is_err());
    let cut = copy(original.path());
    fs::remove_file(cut.path().join("tile/entries/001")).unwrap();
    let error = verify(&cut).unwrap_err();
    assert!(error.contains("tile/entries/001 is missing"), "{error}");
}

/// Changes that the owner of the key makes: only an older checkpoint shows them.
#[test]
fn an_entry_that_is_left_out_and_signed_again_is_found_with_an_older_checkpoint() {
    let original = tempfile::tempdir().unwrap();
    write(original.path(), 300);
    let older = original.path().join("saved");
    fs::copy(original.path().join("checkpoint"), &older).unwrap();
    write(original.path(), 400);
    let public = key().verifier().to_string();
    let since = |directory: &TempDir| {
        let source = text(directory.path());
        ledger(&["verify", source, "--key", &public, "--since", text(&older)])
    };
    since(&original).unwrap();

    let all: Vec<String> = (0..400).map(entry).collect();
    let mut without = all.clone();
    without.remove(7);
    for forged in [&without[..], &all[..299], &[&all[..299], &[entry(7)]].concat()] {
        let forgery = tempfile::tempdir().unwrap();
        write_entries(forgery.path(), forged);
        ledger(&["verify", text(forgery.path()), "--key", &public]).unwrap();
        let error = since(&forgery).unwrap_err();
        assert!(error.contains("saved"), "{error}");
    }
}

#[test]
fn a_proof_holds_for_its_entry_alone() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 700);
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (proof, json, public) = (file("proof"), file("json"), key().verifier().to_string());
    let source = text(directory.path());
    for number in [0, 255, 256, 699] {
        let number_text = number.to_string();
        ledger(&["prove", source, &number_text, "--proof", &proof, "--entry-file", &json]).unwrap();
        assert_eq!(fs::read_to_string(&json).unwrap(), entry(number));
        ledger(&["check", &proof, &json, "--key", &public]).unwrap();
    }
    fs::write(&json, entry(7)).unwrap();
    let error = ledger(&["check", &proof, &json, "--key", &public]).unwrap_err();
    assert!(error.contains(r#""code":"LedgerInvalid""#), "{error}");
    let error = ledger(&["check", &proof, &json]).unwrap_err();
    assert!(error.contains("under a key that you trust"), "{error}");
    let error = ledger(&["prove", source, "700", "--proof", &proof]).unwrap_err();
    assert!(error.contains(r#""code":"NotFound""#), "{error}");
}

#[test]
fn ledgers_are_compared() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), 600);
    write(other.path(), 500);
    ledger(&["diff", text(one.path()), text(other.path())]).unwrap();
    let mut all: Vec<String> = (0..600).map(entry).collect();
    all[430] = entry(7);
    let changed = tempfile::tempdir().unwrap();
    write_entries(changed.path(), &all);
    let error = ledger(&["diff", text(one.path()), text(changed.path())]).unwrap_err();
    assert!(error.contains("differ from entry 430 on, of 600"), "{error}");
}

/// Serves a ledger as the auditor does; returns its address.
async fn serve(directory: PathBuf) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Served {
        registry: Registry::new(),
        lock: ScrapeLock::default(),
        health: Health::default(),
        ledger: Some(directory),
    };
    tokio::spawn(async move { axum::serve(listener, router(served)).await });
    format!("http://{address}/ledger")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_grows_with_the_ledger_and_refuses_another_history() {
    let (original, mirror) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = serve(original.path().to_owned()).await;
    let public = key().verifier().to_string();
    let copy_now = || ledger(&["mirror", &url, text(mirror.path()), "--key", &public]);
    assert!(copy_now().unwrap_err().contains(r#""code":"NoLedger""#));
    for entries in [0, 3, 256, 300, 700] {
        write(original.path(), entries);
        copy_now().unwrap();
        ledger(&["verify", text(mirror.path()), "--key", &public]).unwrap();
        ledger(&["diff", &url, text(mirror.path())]).unwrap();
    }
    ledger(&["verify", &url, "--key", &public]).unwrap();
    ledger(&["show", &url, "255", "--count", "2"]).unwrap();

    // The owner of the key writes another history of the same length, and a longer one.
    for entries in [699, 700, 800] {
        let other = tempfile::tempdir().unwrap();
        let forged: Vec<String> = (1..=entries).map(entry).collect();
        write_entries(other.path(), &forged);
        let url = serve(other.path().to_owned()).await;
        let error = ledger(&["mirror", &url, text(mirror.path())]).unwrap_err();
        assert!(error.contains(r#""code":"LedgerInvalid""#), "{error}");
        ledger(&["diff", text(original.path()), text(mirror.path())]).unwrap();
        ledger(&["verify", text(mirror.path()), "--key", &public]).unwrap();
    }
}

/// The owner of the key cannot show two histories to those who require a witness.
/// A reader knows the first key, and a checkpoint from the time in which both signed.
#[test]
fn a_key_that_was_replaced_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("journal");
    let new = |seed| SigningKey::from_seed("example.com/ledger", [seed; 32]).unwrap();
    let (first, second, forged) = (key(), new(8), new(9));
    let settings = |keys: &[&SigningKey]| {
        let keys: Vec<_> = keys.iter().map(|key| key.verifier().to_string()).collect();
        serde_json::json!({"kind": "settings", "ledgerKeys": keys}).to_string()
    };
    let append =
        |signer: &SigningKey, next: Option<&SigningKey>, entries: &[String], saved: &str| {
            let disk = Directory::take(&directory).unwrap();
            let (mut journal, _) = Journal::open(disk, signer.clone()).unwrap();
            next.into_iter().for_each(|next| journal.set_next_key(next.clone()));
            journal.append(entries, &["state"], false).unwrap();
            journal.publish().unwrap();
            fs::copy(directory.join("checkpoint"), root.path().join(saved)).unwrap();
        };
    append(&first, None, &[entry(0)], "before");
    append(&first, Some(&second), &[settings(&[&first, &second])], "both");
    append(&second, None, &[settings(&[&second]), entry(3)], "after");
    let public = first.verifier().to_string();
    let verify = |since: &[&str]| {
        let since = since.iter().map(|name| text(&root.path().join(name)).to_owned());
        let since: Vec<_> = since.flat_map(|path| ["--since".to_owned(), path]).collect();
        let words = ["verify", text(&directory), "--key", &public];
        ledger(&[&words[..], &since.iter().map(String::as_str).collect::<Vec<_>>()].concat())
    };
    let untrusted = |since: &[&str]| {
        let error = verify(since).unwrap_err();
        assert!(error.contains("is not trusted"), "{since:?}: {error}");
    };
    untrusted(&[]);
    untrusted(&["before"]);
    verify(&["both"]).unwrap();
    verify(&["both", "after", "before"]).unwrap();
    // Who has the second key names a third one, and no checkpoint of a key that is trusted has that.
    append(&second, Some(&forged), &[settings(&[&second, &forged])], "third");
    let forge = |text: String| fs::write(directory.join("checkpoint"), text).unwrap();
    let signed = fs::read_to_string(directory.join("checkpoint")).unwrap();
    verify(&["both"]).unwrap();
    let lines: Vec<&str> = signed.lines().collect();
    let checkpoint = daylight_ledger::Checkpoint::parse(&format!("{}\n", lines[..3].join("\n")));
    forge(checkpoint.unwrap().sign(&[&forged]).unwrap().to_string());
    untrusted(&["both"]);
    verify(&["both", "third"]).unwrap();
}

/// The volume is lost, and the auditor continues from a copy.
#[test]
fn a_copy_with_its_secrets_is_restored_and_no_other() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let (journal, copy, restored) = (path("journal"), path("copy"), path("restored"));
    let open = |path: &Path| Journal::open(Directory::take(path).unwrap(), key()).unwrap();
    write(&journal, 300);
    let mirror =
        |words: &[&str]| ledger(&[&["mirror", text(&journal), text(&copy)], words].concat());
    mirror(&[]).unwrap();
    let restore = |words: &[&str]| {
        let public = key().verifier().to_string();
        let words = [&["--key", &public], words].concat();
        ledger(&[&["restore", text(&copy), text(&restored)], &words[..]].concat())
    };
    let error = restore(&[]).unwrap_err();
    assert!(error.contains("has no state") && error.contains("--with-secrets"), "{error}");
    assert!(mirror(&["--with-secrets"]).unwrap_err().contains("has no state"), "without a key");
    fs::write(journal.join("pseudonym.key"), "a secret of sixteen bytes").unwrap();
    mirror(&["--with-secrets"]).unwrap();
    let kept = path("kept");
    fs::copy(journal.join("checkpoint"), &kept).unwrap();
    // A new state, and entries that are not signed yet.
    let (mut writer, _) = open(&journal);
    writer.append(&[entry(300), entry(301)], &["a new state"], true).unwrap();
    drop(writer);
    mirror(&["--with-secrets"]).unwrap();
    // The copy alone remains.
    fs::rename(&journal, path("lost")).unwrap();

    restore(&["--kept", text(&kept)]).unwrap();
    let (mut writer, state) = open(&restored);
    assert_eq!((writer.size(), state), (302, vec![b"a new state".to_vec()]));
    let secret = fs::read_to_string(restored.join("pseudonym.key")).unwrap();
    assert_eq!(secret, "a secret of sixteen bytes");
    writer.append(&[entry(302)], &["more"], false).unwrap();
    writer.publish().unwrap();
    drop(writer);
    ledger(&["verify", text(&restored), "--since", text(&kept)]).unwrap();
    let error = restore(&[]).unwrap_err();
    assert!(error.contains("is not empty"), "{error}");
    // The copy is older than what was signed since.
    fs::copy(restored.join("checkpoint"), &kept).unwrap();
    fs::rename(&restored, path("newer")).unwrap();
    let error = restore(&["--kept", text(&kept)]).unwrap_err();
    assert!(error.contains("has 300 entries, but 303 were signed: it is an old copy"), "{error}");
    // Entries that were copied without their state.
    fs::rename(path("newer"), &journal).unwrap();
    mirror(&[]).unwrap();
    let error = restore(&[]).unwrap_err();
    assert!(error.contains("has the state of 302 entries, and 303 entries"), "{error}");
    // A copy that was changed.
    mirror(&["--with-secrets"]).unwrap();
    let bundle = copy.join("tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[100] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let error = restore(&[]).unwrap_err();
    assert!(error.contains("is not what was signed"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_cosigns_one_history() {
    let directories: Vec<TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let [original, forgery, first, second] = &directories[..] else { unreachable!() };
    let [one, one_pq] = witness::start(first.path(), "one", key().verifier()).await;
    let [two, _] = witness::start(second.path(), "two", key().verifier()).await;
    let policy = original.path().join("policy");
    let log = format!("log {}\n", key().verifier());
    let all = format!(
        "{log}{one}{one_pq}{two}group all-of-them all one one-pq two\nquorum all-of-them\n"
    );
    fs::write(&policy, &all).unwrap();
    let cosigned = original.path().join("cosigned");
    let cosign = |directory: &TempDir, policy: &Path| {
        let (source, policy) = (text(directory.path()), text(policy));
        ledger(&["cosign", source, "--policy", policy, "--checkpoint", text(&cosigned)])
    };
    let verify = |directory: &TempDir, more: &[&str]| {
        let source = text(directory.path());
        ledger(&[&["verify", source, "--policy", text(&policy)], more].concat())
    };
    for entries in [3, 300, 700] {
        write(original.path(), entries);
        assert!(verify(original, &[]).unwrap_err().contains("too few witnesses"));
        cosign(original, &policy).unwrap();
        verify(original, &["--checkpoint", text(&cosigned)]).unwrap();
    }
    // The ledger may have grown since.
    write(original.path(), 710);
    verify(original, &["--checkpoint", text(&cosigned)]).unwrap();

    let forged: Vec<String> = (1..=800).map(entry).collect();
    write_entries(forgery.path(), &forged);
    let error = cosign(forgery, &policy).unwrap_err();
    assert!(error.contains("422"), "{error}");
    let error = verify(forgery, &["--checkpoint", text(&cosigned)]).unwrap_err();
    assert!(error.contains("too few witnesses"), "{error}");
    let shorter = &tempfile::tempdir().unwrap();
    write(shorter.path(), 600);
    let error = cosign(shorter, &policy).unwrap_err();
    assert!(error.contains("it has cosigned a checkpoint of 700 entries"), "{error}");

    // One that does not answer is not needed where the policy says so.
    let (two_without_address, _) = two.rsplit_once(' ').unwrap();
    let silent = format!("{two_without_address} http://127.0.0.1:1/\n");
    let any = original.path().join("any");
    fs::write(&any, format!("{log}{one}{silent}group some any one two\nquorum some\n")).unwrap();
    cosign(original, &any).unwrap();
}

/// Entries of three registrations that mine for a while each, with two closings, within a quarter of an
/// hour.
fn daylight_entries() -> Vec<String> {
    let at = |second: i64| Timestamp(1_700_001_000_000 + 1000 * second);
    let mut meter = Meter::new(Config::default());
    let (pseudonyms, state) = (Pseudonyms::new(b"secret"), [[]; 0]);
    let (mut writer, _) = EntryWriter::restore(pseudonyms, 0, Duration::ZERO, &state).unwrap();
    let mut batch = Batch::default();
    let node = Name::from("n");
    let devices: Vec<_> = (0..8)
        .map(|number| ObservedDevice {
            id: format!("GPU-{number}").into(),
            model: None,
            limit_mw: None,
        })
        .collect();
    meter.devices(&node, Some(&"hall".into()), 8, &devices, at(0));
    for number in 0..6_u32 {
        let begin = 60 * i64::from(number);
        let tenant = ["acme", "brook", "coal"][number as usize % 3];
        let lease = ObservedLease {
            uid: format!("uid-{number}").into(),
            pod: format!("{tenant}/pod").into(),
            node: node.clone(),
            gpus: 1 + number,
            requested: Requested::default(),
            account: Account {
                class: Some("pow-mining".into()),
                registration: Some(format!("{tenant}/night").into()),
                namespace: tenant.into(),
            },
            watts: 300,
            bound: Moment::exactly(at(begin)),
            started: None,
            owed: true,
        };
        meter.lease(lease.clone(), at(begin));
        meter.ended(lease, Moment::exactly(at(begin + 50)), None, at(begin + 50));
        meter.advance(at(begin + 60));
        batch.add(meter.take_entries(), &mut writer);
        if number % 3 == 2 {
            meter.flush();
            batch.add(meter.take_entries(), &mut writer);
            batch.add_quiet(&mut writer);
            let closing = writer.close(at(begin + 60)).unwrap();
            batch.add(vec![Entry::Closing(closing)], &mut writer);
        }
    }
    batch.leaves.into_iter().map(|leaf| String::from_utf8(leaf).unwrap()).collect()
}

fn pseudonym_of(registration: &str) -> String {
    let mut named = serde_json::json!({ "registration": registration });
    Pseudonyms::new(b"secret").hide(&mut named);
    named["registration"].as_str().unwrap().to_owned()
}

/// Verifies a ledger of these entries that the owner of the key signed.
fn verify_signed(entries: &[String]) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    write_entries(directory.path(), entries);
    ledger(&["verify", text(directory.path()), "--key", &key().verifier().to_string()])
}

/// Without an older checkpoint, too: the entries contradict each other.
#[test]
fn what_the_owner_of_the_key_leaves_out_or_changes_is_found_in_the_entries() {
    let entries = daylight_entries();
    verify_signed(&entries).unwrap();
    for left_out in 0..entries.len() {
        let mut some = entries.clone();
        some.remove(left_out);
        // The first entry is of the devices, and the last closing has no entry after it.
        let is_found = verify_signed(&some);
        let is_last = left_out == entries.len() - 1;
        assert_eq!(is_found.is_ok(), is_last, "entry {left_out}: {}", entries[left_out]);
    }
    for twice in 0..entries.len() {
        let mut more = entries.clone();
        more.insert(twice, entries[twice].clone());
        assert!(verify_signed(&more).is_err(), "entry {twice}");
    }
    let brook = pseudonym_of("brook/night");
    let mut smaller = entries.clone();
    let entry = smaller.iter_mut().find(|entry| entry.contains(&brook)).unwrap();
    assert!(entry.contains(r#""value":"100000""#), "{entry}");
    *entry = entry.replace(r#""value":"100000""#, r#""value":"90000""#);
    let error = verify_signed(&smaller).unwrap_err();
    assert!(error.contains("has other sums than the entries from 0 on"), "{error}");
    // The owner of the key may shift time from one account to another.
    let mut shifted = entries.clone();
    let acme = pseudonym_of("acme/night");
    let entry = shifted.iter_mut().find(|entry| entry.contains(&brook)).unwrap();
    *entry = entry.replace(&brook, &acme);
    assert!(verify_signed(&shifted).is_err());
}

#[test]
fn a_registration_checks_its_own_figures_offline_and_sees_no_others() {
    let directory = tempfile::tempdir().unwrap();
    write_entries(directory.path(), &daylight_entries());
    let public = key().verifier().to_string();
    let proof = directory.path().join("proof");
    let prove = |more: &[&str]| {
        let words = ["prove", text(directory.path()), "--proof", text(&proof)];
        ledger(&[&words, more].concat())
    };
    let check = || ledger(&["check", text(&proof), "--key", &public]);

    // Without the key of the pseudonyms it is a name that no account has.
    let error = prove(&["--registration", "brook/night"]).unwrap_err();
    assert!(error.contains("No closing of the ledger has anything of registration brook/night"));
    let error = prove(&["--registration", "brook/night", "--closing", "1"]).unwrap_err();
    assert!(error.contains("in entry 3 has nothing of registration brook/night"), "{error}");
    fs::write(directory.path().join("pseudonym.key"), "secret\n").unwrap();
    prove(&["--registration", "brook/night", "--closing", "1"]).unwrap();
    check().unwrap();
    let honest = fs::read_to_string(&proof).unwrap();
    assert!(honest.contains(r#""deviceMs":"100000""#), "{honest}");
    let others = ["acme/night", "coal/night"].map(pseudonym_of);
    let accounts = &honest[honest.find(r#""accounts""#).unwrap()..];
    assert!(others.iter().all(|other| !accounts.contains(other)), "{accounts}");

    for (from, to) in [
        (r#""deviceMs":"100000""#, r#""deviceMs":"90000""#),
        (r#""millijoules":"0""#, r#""millijoules":"1""#),
        (r#"\"kind\":\"closing\""#, r#"\"kind\": \"closing\""#),
        ("pow-mining", "ai-training"),
        (&pseudonym_of("brook/night"), &pseudonym_of("acme/night")),
    ] {
        assert!(honest.contains(from), "{from}: {honest}");
        fs::write(&proof, honest.replacen(from, to, 1)).unwrap();
        let error = check().unwrap_err();
        assert!(error.contains(r#""code":"LedgerInvalid""#), "{from}: {error}");
    }
    prove(&["--registration", &pseudonym_of("coal/night"), "--pseudonym-key", "/nowhere"])
        .unwrap_err();
    prove(&["--registration", "coal/night"]).unwrap();
    assert!(fs::read_to_string(&proof).unwrap().contains(r#""deviceMs":"300000""#));
    let error = prove(&["--registration", "coal/night", "--closing", "3"]).unwrap_err();
    assert!(error.contains("no closing with number 3"), "{error}");
}

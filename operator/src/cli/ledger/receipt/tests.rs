use std::fs;
use std::path::Path;

use clap::Parser;
use daylight_meter::{
    Description, Entry, Image, JobKind, JobReference, Method, ObservedSettings, PodOutcome,
    SettingsEntry, SignatureRule,
};

use super::*;
use crate::cli::ledger::evidence::{ListedFile, MANIFEST};
use crate::cli::ledger::sample::{append, key, ledger, text_of};
use crate::reporting::history::{History, MINUTE, Step, at, node, pseudonym_of};

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    receipt: Flags,
}

/// Runs `daylight receipt …`. Returns the failure as JSON.
async fn receipt(words: &[&str]) -> Result<(), String> {
    let public = key().verifier().to_string();
    let words = [&["receipt"], words, &["--key", &public]].concat();
    let Words { connection, receipt } =
        Words::try_parse_from(words).map_err(|error| error.to_string())?;
    run(&connection, &receipt).await.map_err(|error| error.json())
}

const DIGEST: &str = "sha256:5f0c";

fn described(uid: &str, outcome: Option<PodOutcome>) -> Description {
    Description {
        job: Some(JobReference { kind: JobKind::AIJob, name: "t2/train".into(), uid: uid.into() }),
        images: vec![
            Image { digest: Some(DIGEST.into()), requested: None },
            Image { digest: None, requested: Some("r.io/logs:2".into()) },
        ],
        more_images: 0,
        outcome,
    }
}

/// An hour in which a job of one pod with two GPUs is preempted after half an hour and continues elsewhere
/// ten minutes later, after a job of its name and next to a miner.
fn history() -> History {
    let mut history = History::new();
    history.classes = ["pow-mining", "pow-mining", "ai-training"];
    let end = |history: &mut History, which, number: usize, uid: &str, job: &str, outcome| {
        history.take(Step::End { which });
        history.meter.describe(&node(number), uid, described(job, Some(outcome)));
    };
    let begin = |history: &mut History, number: usize, uid: &str, job: &str| {
        history.take(Step::Begin { node: number, gpus: 2, tenant: 2 });
        history.meter.describe(&node(number), uid, described(job, None));
    };
    let seen = ObservedSettings {
        signature: SignatureRule::Optional,
        authority_keys: Vec::new(),
        emergency_stop: None,
        admission_mode: None,
        ledger_keys: vec![key().verifier().to_string().into()],
    };
    history.add(Entry::Settings(Box::new(SettingsEntry { seen, at: at(0) })));
    history.take(Step::Scrape);
    history.take(Step::Begin { node: 2, gpus: 1, tenant: 0 });
    begin(&mut history, 0, "uid-2", "ai-0");
    for minute in (10..=80).step_by(10) {
        history.wait(10 * MINUTE);
        match minute {
            10 => {
                end(&mut history, 1, 0, "uid-2", "ai-0", PodOutcome::Failed);
                begin(&mut history, 0, "uid-3", "ai-1");
            }
            40 => end(&mut history, 1, 0, "uid-3", "ai-1", PodOutcome::Disrupted),
            50 => begin(&mut history, 1, "uid-4", "ai-1"),
            70 => end(&mut history, 1, 1, "uid-4", "ai-1", PodOutcome::Succeeded),
            _ => {}
        }
        history.take(Step::Scrape);
    }
    history.settle();
    history
}

fn read(out: &Path) -> Receipt {
    serde_json::from_slice(&fs::read(out.join(RECEIPT)).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_has_what_a_job_used_and_is_computed_again() {
    let mut history = history();
    let ledger = ledger(&history.batch.leaves);
    let directory = tempfile::tempdir().unwrap();
    let out = &directory.path().join("receipt");
    let of_job = ["t2/train", "--ledger", text_of(ledger.path())];
    receipt(&[&of_job[..], &["--out", text_of(out)]].concat()).await.unwrap();
    receipt(&["verify", text_of(out)]).await.unwrap();
    receipt(&["verify", text_of(out), text_of(ledger.path())]).await.unwrap();

    let found = read(out);
    let figures = &found.figures;
    assert_eq!(&*figures.job.uid, "ai-1", "the last job of the name");
    assert_eq!(figures.job.name, pseudonym_of(&"t2/train".into()));
    assert_eq!((figures.start.earliest, figures.end.latest), (at(10), at(70)));
    assert_eq!(figures.gpu_ms.value, 2 * 50 * 60_000);
    assert!(figures.gpu_ms.lower() <= 2 * 50 * 60_000 && figures.gpu_ms.upper() >= 2 * 50 * 60_000);
    // Each device draws 300 W, whichever pod has it.
    let counter = figures.energy.iter().find(|line| line.method == Some(Method::Counter)).unwrap();
    let drawn = 2 * 50 * 60 * 300_000;
    assert!(counter.mj.value.abs_diff(drawn) < drawn / 100, "{counter:?}");
    let shared: u64 = figures.energy.iter().map(|line| line.mj.upper()).sum();
    assert!(shared >= drawn);
    assert_eq!((figures.pods.len(), figures.interrupted_pods, figures.unsettled), (2, 1, 0));
    let runs: Vec<_> = figures.runs.iter().map(|run| (run.from, run.until)).collect();
    assert_eq!(runs, [(at(10), at(40)), (at(50), at(70))]);
    let outcomes: Vec<_> = figures.outcomes.iter().map(|(name, count)| (&**name, *count)).collect();
    assert_eq!(outcomes, [("disrupted", 1), ("succeeded", 1)]);
    assert_eq!(figures.images.len(), 2);
    let devices: Vec<_> = figures.devices.iter().map(|one| (&*one.id, one.certain)).collect();
    let all = ["GPU-0-0", "GPU-0-1", "GPU-1-0", "GPU-1-1"].map(|id| (id, true));
    assert_eq!(devices, all);
    let text = found.text();
    assert!(
        text.contains(&format!("{DIGEST}, r.io/logs:2 (as requested, without a digest)")),
        "{text}"
    );
    assert!(text.contains("GPU-seconds   6000.000 ("), "{text}");
    assert!(
        text.contains("interrupted   1 of the pods, followed by others; without any from 20"),
        "{text}"
    );

    // No name of a tenant is in any file, unless it is to be shown.
    for file in fs::read_dir(out).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("train\"") && !text.contains("t2/"), "{text}");
    }
    let revealed = &directory.path().join("revealed");
    receipt(&[&of_job[..], &["--reveal", "--out", text_of(revealed)]].concat()).await.unwrap();
    receipt(&["verify", text_of(revealed)]).await.unwrap();
    assert_eq!(read(revealed).name.as_deref(), Some("t2/train"));

    // With the proof of the ledger's keys.
    let keys = &directory.path().join("keys");
    let since = ledger.path().join("checkpoint");
    let with_keys = ["--since", text_of(&since), "--out", text_of(keys)];
    receipt(&[&of_job[..], &with_keys].concat()).await.unwrap();
    assert!(keys.join("keys-1.tlog-proof").exists());
    receipt(&["verify", text_of(keys)]).await.unwrap();

    // The job of the name before it, by its UID and without the key.
    let before = &directory.path().join("before");
    let by_uid = ["--uid", "ai-0", "--ledger", text_of(ledger.path()), "--out", text_of(before)];
    receipt(&by_uid).await.unwrap();
    assert_eq!(read(before).figures.pods.len(), 1);
    let error = receipt(&["--uid", "ai-7", "--ledger", text_of(ledger.path())]).await.unwrap_err();
    assert!(error.contains("NotFound"), "{error}");
    let error = receipt(&[&of_job[..], &["--out", text_of(out)]].concat()).await.unwrap_err();
    assert!(error.contains("has a receipt"), "{error}");

    // Another pod of the job ends after it was written.
    history.take(Step::Begin { node: 0, gpus: 1, tenant: 2 });
    history.meter.describe(&node(0), "uid-5", described("ai-1", None));
    history.wait(MINUTE);
    history.settle();
    append(ledger.path(), &history.batch.leaves);
    receipt(&["verify", text_of(out), text_of(ledger.path())]).await.unwrap();
    let later = &directory.path().join("later");
    receipt(&[&of_job[..], &["--out", text_of(later)]].concat()).await.unwrap();
    let later = read(later).figures;
    assert_eq!((later.pods.len(), later.outcomes.get("unseen")), (3, Some(&1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_receipt_is_refused() {
    let ledger = ledger(&history().batch.leaves);
    let one = tempfile::tempdir().unwrap();
    let words = ["t2/train", "--ledger", text_of(ledger.path()), "--out", text_of(one.path())];
    receipt(&words).await.unwrap();
    let genuine = read(one.path());

    // Changes a file, and lists it in the manifest as it is then, as a forger would.
    let forged = async |name: &str, change: &dyn Fn(String) -> String| {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(one.path()).unwrap() {
            let path = file.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let path = copy.path().join(name);
        let before = fs::read_to_string(&path).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "{name}");
        fs::write(&path, &after).unwrap();
        let error = receipt(&["verify", text_of(copy.path())]).await.unwrap_err();
        assert!(error.contains("is not the file that the manifest lists"), "{error}");
        let path = copy.path().join(MANIFEST);
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for listed in manifest["files"].as_array_mut().unwrap() {
            if listed["name"] == name {
                *listed = serde_json::to_value(ListedFile::new(name, after.as_bytes())).unwrap();
            }
        }
        fs::write(&path, manifest.to_string()).unwrap();
        receipt(&["verify", text_of(copy.path())]).await.unwrap_err()
    };
    let gpu_ms = format!("\"{}\"", genuine.figures.gpu_ms.value);
    let error = forged(RECEIPT, &|text| text.replace(&gpu_ms, "\"1000\"")).await;
    assert!(error.contains("is not what its entries add up to"), "{error}");
    let error = forged(RECEIPT, &|text| text.replace(DIGEST, "sha256:0bad")).await;
    assert!(error.contains("images is not what its entries add up to"), "{error}");
    let error = forged(RECEIPT, &|text| text.replace("disrupted", "succeeded")).await;
    assert!(error.contains("LedgerInvalid"), "{error}");
    let [entry, proof] = entry_files(genuine.figures.pods[0].closed);
    let error = forged(&entry, &|text| text.replace("\"gpus\":2", "\"gpus\":1")).await;
    assert!(error.contains("is not in the ledger"), "{error}");
    let error = forged(&proof, &|text| text.replace("index ", "index 1")).await;
    assert!(error.contains("is not in the ledger"), "{error}");

    // The same entry under another name, too.
    let copy = tempfile::tempdir().unwrap();
    let mut twice: Vec<(String, String)> = Vec::new();
    for file in fs::read_dir(one.path()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let text = fs::read_to_string(one.path().join(&name)).unwrap();
        if name == proof {
            twice.push((name.replace("entry-", "entry-0"), text.clone()));
        }
        if name != MANIFEST {
            twice.push((name, text));
        }
    }
    let subject = Subject { job: genuine.figures.job.clone() };
    evidence::write(copy.path(), FORM, subject, twice).unwrap();
    let error = receipt(&["verify", text_of(copy.path())]).await.unwrap_err();
    assert!(error.contains("is not the proof of an entry of its own"), "{error}");

    // A pod is left out, with figures that fit to the rest: only the ledger shows it.
    let pod = &genuine.figures.pods[0];
    let left_out = [Some(pod.closed), pod.settled];
    let index = |name: &str| {
        let number = name.strip_prefix("entry-")?.split_once('.')?.0;
        number.parse::<u64>().ok()
    };
    let copy = tempfile::tempdir().unwrap();
    let mut receipts = JobReceipts::new(WantedJob::Uid("ai-1".into()));
    let mut contents = Vec::new();
    for file in fs::read_dir(one.path()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let text = fs::read_to_string(one.path().join(&name)).unwrap();
        let is_left_out = index(&name).is_some_and(|index| left_out.contains(&Some(index)));
        if !is_left_out && ![RECEIPT, MANIFEST].contains(&&*name) {
            contents.push((name, text));
        }
    }
    let proofs = contents.iter().filter_map(|(name, _)| content::index_of(name));
    let mut entries: Vec<(u64, String)> = proofs
        .map(|index| {
            let [entry, _] = entry_files(index);
            (index, fs::read_to_string(one.path().join(entry)).unwrap())
        })
        .collect();
    entries.sort();
    for (index, entry) in &entries {
        receipts.take(*index, entry.as_bytes());
    }
    let figures = receipts.finish().unwrap().figures;
    assert_eq!(figures.pods.len(), 1);
    let job = figures.job.clone();
    let smaller = Receipt { figures, ..genuine };
    contents.push((RECEIPT.to_owned(), serde_json::to_string(&smaller).unwrap()));
    evidence::write(copy.path(), FORM, Subject { job }, contents).unwrap();
    receipt(&["verify", text_of(copy.path())]).await.unwrap();
    let both = ["verify", text_of(copy.path()), text_of(ledger.path())];
    let error = receipt(&both).await.unwrap_err();
    assert!(error.contains("is not what the ledger add up to"), "{error}");
}

use std::fs;
use std::path::Path;

use clap::Parser;
use daylight_base::Name;
use daylight_ledger::{Checkpoint, SigningKey};
use daylight_meter::{
    Decision, DeclaredPeriod, Entry, ObjectEntry, ObjectKind, ObservedObject, ObservedSettings,
    SettingsEntry, SignatureRule,
};

use super::*;
use crate::auditor::journal::{Directory, Journal};
use crate::cli::ledger::evidence::{ListedFile, MANIFEST};
use crate::cli::ledger::sample::{append, key, ledger, text_of};
use crate::reporting::history::{History, MINUTE, Step, at, pseudonym_of, registration};
use crate::reporting::numbers;

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    report: Flags,
}

/// Runs `daylight report …`. Returns the failure as JSON.
fn report(words: &[&str]) -> Result<(), String> {
    let words =
        Words::try_parse_from([&["report"], words].concat()).map_err(|it| it.to_string())?;
    run(&words.report).map_err(|error| error.json())
}

fn public() -> String {
    key().verifier().to_string()
}

const HOSTILE: &str = "<script>alert(\"x\")</script>'&";

/// Days from 14 to 17 November 2023 in which two tenants mine and one trains.
fn history() -> History {
    let mut history = History::new();
    history.classes = ["pow-mining", HOSTILE, "ai-training"];
    let settings = |mode: &str, minute| {
        let seen = ObservedSettings {
            signature: SignatureRule::Optional,
            authority_keys: Vec::new(),
            emergency_stop: None,
            admission_mode: Some(mode.into()),
            ledger_keys: Vec::new(),
        };
        Entry::Settings(Box::new(SettingsEntry { seen, at: at(minute) }))
    };
    history.add(settings("Audit", 0));
    history.add(settings("Warn", 1));
    let object = |object, name: Name, minute: i64| {
        let decision = (object == ObjectKind::Registration).then(|| Decision {
            state: "Approved".into(),
            by: "officer@example.com".into(),
            at: at(minute),
            digest: Some("sha256:5f0c".into()),
            signature: None,
            reference: None,
        });
        let seen = ObservedObject {
            object,
            name,
            uid: "77aa".into(),
            generation: 4,
            digest: "sha256:5f0c".into(),
            decision,
            standing: Some("Active".into()),
            declares: None,
        };
        Entry::Object(Box::new(ObjectEntry { seen, at: at(minute), unseen: 0, gone: false }))
    };
    history.add(object(ObjectKind::Registration, registration(0), 2));
    history.add(filing(1, "2023-11", 0, "N-1"));
    history.take(Step::Scrape);
    history.take(Step::Begin { node: 0, gpus: 2, tenant: 0 });
    history.take(Step::Begin { node: 1, gpus: 1, tenant: 1 });
    for minute in (10..60 * 60).step_by(10) {
        history.wait(10 * MINUTE);
        match minute {
            900 => history.add(settings("Enforce", 900)),
            1000 => history.add(object(
                ObjectKind::ValidatingAdmissionPolicy,
                "daylight-miners".into(),
                1000,
            )),
            1100 => history.add(object(ObjectKind::Registration, registration(0), 1100)),
            1200 => history.take(Step::End { which: 1 }),
            1210 => history.take(Step::Begin { node: 1, gpus: 2, tenant: 2 }),
            // Nothing is read for hours.
            2000..2300 => continue,
            _ => {}
        }
        history.take(Step::Scrape);
    }
    history.settle();
    history
}

/// A filing of a declaration.
fn filing(tenant: usize, period: &str, correction: u32, reference: &str) -> Entry {
    let seen = ObservedObject {
        object: ObjectKind::Declaration,
        name: format!("t{tenant}/night-{period}-c{correction}").into(),
        uid: "n0FV".into(),
        generation: 1,
        digest: "sha256:91be".into(),
        decision: Some(Decision {
            state: "Filed".into(),
            by: "officer@example.com".into(),
            at: at(4000),
            digest: Some("n0FV".into()),
            signature: None,
            reference: Some(reference.into()),
        }),
        standing: None,
        declares: Some(DeclaredPeriod {
            registration: registration(tenant),
            period: period.into(),
            correction,
        }),
    };
    Entry::Object(Box::new(ObjectEntry { seen, at: at(4000), unseen: 0, gone: false }))
}

fn write_report(ledger: &Path, out: &Path, more: &[&str]) -> Result<(), String> {
    let public = public();
    let words = [text_of(ledger), "--out", text_of(out), "--key", &public];
    report(&[&words, more].concat())
}

const ACME: [&str; 4] = ["--registration", "t0/night", "--period", "2023-11"];

fn verify(words: &[&str]) -> Result<(), String> {
    report(&[&["verify"], words, &["--key", &public()]].concat())
}

/// Changes a file of a report, and lists it in the manifest as it is then, as a forger would.
fn forge(directory: &Path, name: &str, change: impl Fn(String) -> String) {
    let path = directory.join(name);
    let before = fs::read_to_string(&path).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "{name}");
    fs::write(&path, &after).unwrap();
    let [before, after] = [before, after].map(|it| ListedFile::new(name, it.as_bytes()));
    let path = directory.join(MANIFEST);
    let manifest = fs::read_to_string(&path).unwrap();
    let manifest = manifest.replace(&before.sha256, &after.sha256);
    let (before, after) = (before.bytes.to_string(), after.bytes.to_string());
    fs::write(path, manifest.replace(&format!("\"{before}\""), &format!("\"{after}\""))).unwrap();
}

#[test]
fn a_report_is_computed_again_from_its_own_entries_and_from_the_ledger() {
    let mut history = history();
    let ledger = ledger(&history.batch.leaves);
    let directory = tempfile::tempdir().unwrap();
    let out = &directory.path().join("november");
    write_report(ledger.path(), out, &ACME).unwrap();
    let error = write_report(ledger.path(), out, &ACME).unwrap_err();
    assert!(error.contains("a correction does not replace what was filed"), "{error}");
    verify(&[text_of(out)]).unwrap();
    verify(&[text_of(out), text_of(ledger.path())]).unwrap();
    let other =
        SigningKey::from_seed("example.com/ledger", [8; 32]).unwrap().verifier().to_string();
    report(&["verify", text_of(out), "--key", &other]).unwrap_err();
    let error = report(&["verify", text_of(out)]).unwrap_err();
    assert!(error.contains("under a key that you trust"), "{error}");

    let (found, entries) = files::parse(&fs::read_to_string(out.join(NDJSON)).unwrap()).unwrap();
    let shorter = u64::try_from(entries.len()).unwrap();
    assert!(
        found.totals.entries < shorter,
        "the ones before the first and after the last prove them"
    );
    assert!(shorter < found.size);
    assert_eq!(found.parts.len(), 30);
    assert!(found.totals.is_complete() || !found.totals.unreported.is_empty());
    assert_eq!(found.subject.registration, Some(pseudonym_of(&registration(0))));
    let modes: Vec<_> = found.admission.iter().map(|it| it.mode.as_deref().unwrap()).collect();
    assert_eq!(modes, ["Audit", "Warn", "Enforce"]);
    assert_eq!((found.register.len(), found.policies.len()), (2, 1));
    assert!(!found.gaps.is_empty(), "the hours in which nothing was read");
    // The sums of the days are those of the month.
    let days: u64 =
        found.parts.iter().flat_map(|it| &it.classes).map(|it| it.device_ms.value).sum();
    assert_eq!(days, found.device_ms().value);
    assert_eq!(days, 2 * (60 * 60 - 10 + 15) * 60_000);

    // A later period, or more of this one.
    history.wait(10 * MINUTE);
    history.take(Step::Begin { node: 0, gpus: 1, tenant: 0 });
    history.wait(30 * MINUTE);
    history.settle();
    append(ledger.path(), &history.batch.leaves);
    verify(&[text_of(out), text_of(ledger.path())]).unwrap();
    let again = &directory.path().join("correction");
    write_report(ledger.path(), again, &ACME).unwrap();
    verify(&[text_of(again), text_of(ledger.path())]).unwrap();
    let (corrected, _) = files::parse(&fs::read_to_string(again.join(NDJSON)).unwrap()).unwrap();
    assert!(corrected.device_ms().value > found.device_ms().value);

    let error = write_report(
        ledger.path(),
        &directory.path().join("none"),
        &["--registration", "t7/night", "--period", "2023-11"],
    );
    assert!(error.unwrap_err().contains("has nothing of registration"));
    let error = write_report(
        ledger.path(),
        &directory.path().join("none"),
        &["--registration", "t0/night", "--period", "2023-11", "--time-zone", "Mars/Base"],
    );
    assert!(error.unwrap_err().contains("is not in the time zone database"));
}

/// They are recorded after the period, among entries of the next.
#[test]
fn a_report_lists_the_filings_of_its_period() {
    let mut history = history();
    let ledger = ledger(&history.batch.leaves);
    let directory = tempfile::tempdir().unwrap();
    let before = &directory.path().join("before");
    write_report(ledger.path(), before, &ACME).unwrap();
    let long = 20 * 24 * 60 * MINUTE;
    history.wait(long);
    history.take(Step::Begin { node: 0, gpus: 1, tenant: 0 });
    for _ in 0..40 {
        history.wait(10 * MINUTE);
        history.take(Step::Scrape);
    }
    history.settle();
    for entry in [
        filing(0, "2023-11", 0, "=N-2"),
        filing(0, "2023-10", 0, "N-3"),
        filing(0, "2023-11", 1, "N-4"),
    ] {
        history.add(entry);
    }
    append(ledger.path(), &history.batch.leaves);
    verify(&[text_of(before), text_of(ledger.path())]).unwrap();

    let out = &directory.path().join("filed");
    write_report(ledger.path(), out, &ACME).unwrap();
    verify(&[text_of(out)]).unwrap();
    verify(&[text_of(out), text_of(ledger.path())]).unwrap();
    let read = |out: &Path| files::parse(&fs::read_to_string(out.join(NDJSON)).unwrap()).unwrap();
    let (found, entries) = read(out);
    let references = |report: &content::Report| -> Vec<String> {
        let decisions = report.filings.iter().map(|it| it.change.seen.decision.as_ref().unwrap());
        decisions.map(|it| it.reference.as_deref().unwrap().to_owned()).collect()
    };
    assert_eq!(references(&found), ["=N-2", "N-4"]);
    assert_eq!(read(before).0.filings.len(), 0);
    // Of the 40 entries between, none is needed.
    assert!(entries.len() < read(before).1.len() + 10, "{}", entries.len());
    let page = fs::read_to_string(out.join(HTML)).unwrap();
    assert!(page.contains("correction 1") && page.contains("N-4"), "{page}");
    let csv = fs::read_to_string(out.join(CSV)).unwrap();
    assert!(csv.contains("correction 1 filed,,reference,N-4"), "{csv}");
    assert!(csv.contains("filed,,reference,'=N-2"), "{csv}");

    let site = &directory.path().join("site");
    write_report(ledger.path(), site, &["--period", "2023-11"]).unwrap();
    verify(&[text_of(site), text_of(ledger.path())]).unwrap();
    assert_eq!(references(&read(site).0), ["N-1", "=N-2", "N-4"]);

    // One that is left out, and a reference that was never filed.
    forge(out, NDJSON, |text| text.replace("=N-2", "=N-9"));
    let error = verify(&[text_of(out)]).unwrap_err();
    assert!(error.contains("is not in the ledger"), "{error}");
}

/// A regulator knows the first key, which was replaced by the second and that by the third.
#[test]
fn a_report_proves_that_its_key_replaced_the_one_that_is_known() {
    let mut history = history();
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let new = |seed| SigningKey::from_seed("example.com/ledger", [seed; 32]).unwrap();
    let [second, third, forged] = [8, 9, 10].map(new);
    let mut sign = |signer: &SigningKey, next: Option<&SigningKey>, named: &[&SigningKey]| {
        let seen = ObservedSettings {
            signature: SignatureRule::Optional,
            authority_keys: Vec::new(),
            emergency_stop: None,
            admission_mode: None,
            ledger_keys: named.iter().map(|key| key.verifier().to_string().into()).collect(),
        };
        history.add(Entry::Settings(Box::new(SettingsEntry { seen, at: at(5000) })));
        let disk = Directory::take(&path("ledger")).unwrap();
        let (mut journal, _) = Journal::open(disk, signer.clone()).unwrap();
        next.into_iter().for_each(|next| journal.set_next_key(next.clone()));
        let from = usize::try_from(journal.size()).unwrap();
        let text = |entry: &Vec<u8>| String::from_utf8(entry.clone()).unwrap();
        let entries: Vec<String> = history.batch.leaves[from..].iter().map(text).collect();
        journal.append(&entries, &["state"], false).unwrap();
        journal.publish().unwrap();
        fs::read_to_string(path("ledger/checkpoint")).unwrap()
    };
    let save = |name: &str, text: String| fs::write(path(name), text).unwrap();
    save("before", sign(&key(), None, &[&key()]));
    save("both", sign(&key(), Some(&second), &[&key(), &second]));
    save("next", sign(&second, Some(&third), &[&second, &third]));
    sign(&third, None, &[&third]);
    fs::write(path("ledger/pseudonym.key"), "secret\n").unwrap();

    let third = third.verifier().to_string();
    let write = |out: &str, since: &[&str]| {
        let since: Vec<String> = since.iter().map(|it| text_of(&path(it)).to_owned()).collect();
        let since: Vec<&str> = since.iter().flat_map(|it| ["--since", it]).collect();
        let (ledger, out) = (path("ledger"), path(out));
        let words = [text_of(&ledger), "--out", text_of(&out), "--key", &third];
        report(&[&words[..], &ACME, &since].concat())
    };
    write("proved", &["both", "next"]).unwrap();
    let (proved, ledger) = (path("proved"), path("ledger"));
    // With the first key alone; what it is compared with is signed by the third, too.
    verify(&[text_of(&proved)]).unwrap();
    verify(&[text_of(&proved), text_of(&ledger)]).unwrap();
    let other = forged.verifier().to_string();
    report(&["verify", text_of(&proved), "--key", &other]).unwrap_err();

    write("unproved", &[]).unwrap();
    let error = verify(&[text_of(&path("unproved"))]).unwrap_err();
    assert!(error.contains("is not trusted"), "{error}");
    // The first rotation is missing, or no key was named by then.
    write("second-only", &["next"]).unwrap();
    let error = verify(&[text_of(&path("second-only"))]).unwrap_err();
    assert!(error.contains("no trusted key signed what keys-1.json names"), "{error}");
    write("old-only", &["before"]).unwrap();
    verify(&[text_of(&path("old-only"))]).unwrap_err();
    // A forger names a key of its own.
    let named = second.verifier().to_string();
    forge(&proved, "keys-1.json", |text| text.replace(&named, &other));
    let error = verify(&[text_of(&proved)]).unwrap_err();
    assert!(error.contains("no trusted key signed what keys-1.json names"), "{error}");
}

#[test]
fn every_change_of_a_report_is_found() {
    let ledger = ledger(&history().batch.leaves);
    let one = tempfile::tempdir().unwrap();
    write_report(ledger.path(), one.path(), &ACME).unwrap();
    let fresh = || {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(one.path()).unwrap() {
            let path = file.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        copy
    };
    verify(&[text_of(one.path())]).unwrap();
    for name in [NDJSON, CSV, HTML, CHECKPOINT, POLICY] {
        let path = one.path().join(name);
        let before = fs::read(&path).unwrap();
        let mut bytes = before.clone();
        bytes[before.len() / 2] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = verify(&[text_of(one.path())]).unwrap_err();
        assert!(
            error.contains(&format!("{name} is not the file that the manifest lists")),
            "{error}"
        );
        fs::write(&path, before).unwrap();
    }

    // With the manifest as a forger would write it.
    let forged = |name: &str, change: &dyn Fn(String) -> String| {
        let directory = fresh();
        forge(directory.path(), name, change);
        verify(&[text_of(directory.path())]).unwrap_err()
    };
    let (report, entries) =
        files::parse(&fs::read_to_string(one.path().join(NDJSON)).unwrap()).unwrap();
    let hours = numbers::hours(report.device_ms().value);
    for name in [CSV, HTML] {
        let error = forged(name, &|text| text.replace(&hours, "1.000"));
        assert!(error.contains(&format!("{name} has other figures than {NDJSON}")), "{error}");
    }
    let ms = format!("\"value\":\"{}\"", report.device_ms().value);
    let error = forged(NDJSON, &|text| {
        let (head, entries) = text.split_once('\n').unwrap();
        head.replace(&ms, "\"value\":\"1\"") + "\n" + entries
    });
    assert!(error.contains("totals is not what its entries add up to"), "{error}");
    let without = |line: usize| {
        move |text: String| {
            let lines = text.lines().enumerate().filter(|(at, _)| *at != line);
            lines.map(|(_, line)| line.to_owned() + "\n").collect::<String>()
        }
    };
    // The first that counts, one in between, and the last one that counts.
    let place =
        |index: Option<u64>| entries.iter().position(|it| Some(it.index) == index).unwrap() + 1;
    let (first, last) = (place(report.totals.first), place(report.totals.last));
    for line in [first, first + 3, last] {
        let error = forged(NDJSON, &without(line));
        assert!(error.contains("LedgerInvalid"), "line {line}: {error}");
    }
    // Figures that fit to the entries that were left.
    let error = forged(NDJSON, &|text| {
        let text = without(first + 3)(text);
        let (mut report, entries) = files::parse(&text).unwrap();
        let mut compiler = Compiler::new(report.subject.clone()).unwrap();
        entries.iter().for_each(|it| compiler.take(it.index, it.entry.as_bytes()));
        let checkpoint = Checkpoint {
            origin: report.origin.clone(),
            size: report.size,
            root: report.root.parse().unwrap(),
            extensions: Vec::new(),
        };
        report = compiler.finish(&checkpoint).0;
        let line = serde_json::to_string(&files::Line::Report(Box::new(report))).unwrap();
        line + "\n" + text.split_once('\n').unwrap().1
    });
    assert!(error.contains("an entry of the registration before entry"), "{error}");
    let error = forged(NDJSON, &|text| text.replace("\\\"gpus\\\":2", "\\\"gpus\\\":1"));
    assert!(error.contains("is not in the ledger"), "{error}");
}

#[test]
fn no_file_of_a_report_has_a_tenants_name_or_runs_anything() {
    let ledger = ledger(&history().batch.leaves);
    let directory = tempfile::tempdir().unwrap();
    let site = ["--period", "2023-11", "--time-zone", "Europe/Oslo", "--preset", "norway-nkom"];
    for (name, words) in [("registration", &ACME[..]), ("site", &site[..])] {
        let out = directory.path().join(name);
        write_report(ledger.path(), &out, words).unwrap();
        verify(&[text_of(&out), text_of(ledger.path())]).unwrap();
        for file in fs::read_dir(&out).unwrap() {
            let path = file.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for plain in ["t0/", "t1/", "t2/", "night", "officer"] {
                assert!(!text.contains(plain), "{plain} is in {}", path.display());
            }
        }
        let page = fs::read_to_string(out.join(HTML)).unwrap();
        assert!(page.contains("default-src 'none'"));
        for active in
            ["<script", "javascript:", "src=", "href=", "url(", "@import", " style=", " on"]
        {
            let found = page.match_indices(active).next();
            let is_text =
                active == " on" && !page.contains(" onload") && !page.contains(" onclick");
            assert!(found.is_none() || is_text, "{active} is in the page of {name}");
        }
    }
    let page = fs::read_to_string(directory.path().join("site").join(HTML)).unwrap();
    assert!(page.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#39;&amp;"));
    assert!(page.contains("% of the GPU boards"));
    let csv = fs::read_to_string(directory.path().join("site").join(CSV)).unwrap();
    assert!(csv.contains("\"<script>alert(\"\"x\"\")</script>'&\""));

    let out = directory.path().join("revealed");
    write_report(ledger.path(), &out, &[&ACME[..], &["--reveal"]].concat()).unwrap();
    verify(&[text_of(&out)]).unwrap();
    assert!(fs::read_to_string(out.join(HTML)).unwrap().contains("t0/night"));
}

#[test]
fn each_preset_lists_what_cannot_be_known() {
    let ledger = ledger(&history().batch.leaves);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("report");
    write_report(
        ledger.path(),
        &out,
        &[&ACME[..], &["--preset", "eu-ai-act", "--format", "csv"]].concat(),
    )
    .unwrap();
    verify(&[text_of(&out)]).unwrap();
    assert!(!out.join(HTML).exists());
    let (mut report, _) = files::parse(&fs::read_to_string(out.join(NDJSON)).unwrap()).unwrap();
    assert_eq!(report.subject.preset, Preset::EuAiAct);
    for preset in Preset::value_variants() {
        let name = preset.to_possible_value().unwrap().get_name().to_owned();
        assert_eq!(serde_json::to_value(preset).unwrap(), *name);
        report.subject.preset = *preset;
        let fields = preset.fields(&report);
        let (known, unknown): (Vec<_>, Vec<_>) =
            fields.iter().partition(|field| !field.value.is_empty());
        assert!(!known.is_empty() && !unknown.is_empty(), "{name}");
        assert!(fields.iter().all(|field| !field.source.is_empty()), "{name}");
        let energy = known.iter().find(|field| field.unit.contains("kWh")).unwrap();
        assert_eq!(energy.value, numbers::kwh(report.energy(false).value), "{name}");
        let page = files::rendered(HTML, &report).unwrap();
        assert!(
            fields.iter().all(|it| page.contains(&html::Escaped(it.name).to_string())),
            "{name}"
        );
    }
}

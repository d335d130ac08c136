//! Figures of jobs, from entries as ledgers have them.

use serde_json::{Value, json};

use super::*;

/// The end of a pod with two GPUs that ran from second to second.
fn closed(uid: &str, [from, until]: [u64; 2], more: &Value) -> Value {
    let mut lease = json!({
        "uid": uid, "pod": "a/b", "account": {"class": "ai-training", "namespace": "a"}, "gpus": 2,
        "bound": {"earliest": from * 1000, "latest": from * 1000 + 999}, "from": from * 1000,
        "until": until * 1000, "operatedMs": ((until - from) * 1000).to_string(),
        "ended": {"earliest": until * 1000, "latest": until * 1000 + 999},
        "energy": {"value": "30", "below": "5", "above": "6"},
        "job": {"kind": "Job", "name": "a/c", "uid": "job"},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        lease[field] = value.clone();
    }
    json!({"ended": lease["ended"], "lease": lease})
}

fn node(closed: &[Value], more: &Value) -> Value {
    let mut entry = json!({"kind": "node", "node": "n", "from": 0, "until": 0, "closed": closed});
    for (field, value) in more.as_object().into_iter().flatten() {
        entry[field] = value.clone();
    }
    entry
}

fn figures(entries: &[Value]) -> Option<ProvedFigures> {
    let mut receipts = JobReceipts::new(WantedJob::Name("a/c".into()));
    for (index, entry) in entries.iter().enumerate() {
        receipts.take(index as u64, entry.to_string().as_bytes());
    }
    receipts.finish()
}

#[test]
fn energy_that_an_earlier_version_booked_has_no_method() {
    let energy = json!({"value": "100", "below": "5", "above": "6"});
    let counter = json!({"counter": {"value": "70", "below": "1", "above": "2"}});
    let settled = json!({"settled": [{"uid": "p", "energy": energy, "methods": counter}]});
    let entries = [node(&[closed("p", [10, 20], &Value::Null)], &Value::Null), node(&[], &settled)];
    let found = figures(&entries).unwrap();
    let energy: Vec<_> = found.figures.energy.iter().map(|it| (it.method, it.mj.value)).collect();
    assert_eq!(energy, [(Some(Method::Counter), 70), (None, 30)]);
    assert_eq!(found.figures.unsettled, 0);
    assert_eq!(found.entries.into_keys().collect::<Vec<_>>(), [0, 1]);
    // What was booked when it ended, before it is settled; nothing of a job without one that ended.
    let found = figures(&entries[..1]).unwrap().figures;
    assert_eq!((found.energy[0].mj.value, found.unsettled), (30, 1));
    assert_eq!(found.outcomes.get("unseen"), Some(&1));
    assert!(figures(&entries[1..]).is_none());
}

#[test]
fn gpu_time_has_the_doubt_of_seconds_clocks_and_late_ends() {
    let pod = |uid, time| node(&[closed(uid, time, &Value::Null)], &Value::Null);
    let exact = figures(&[pod("p", [10, 20])]).unwrap().figures.gpu_ms;
    assert_eq!(exact, Bounded { value: 20_000, below: 2 * 999, above: 2 * 999 });
    // The clock was set back by five seconds while it ran, and at another time.
    let clock = |at: u64| json!({"kind": "clock", "at": at * 1000, "backMs": "5000"});
    let found = figures(&[clock(1), clock(12), pod("p", [10, 20]), clock(60)]).unwrap();
    assert_eq!(found.figures.gpu_ms.above, 2 * (999 + 5000));
    assert_eq!(found.entries.into_keys().collect::<Vec<_>>(), [1, 2]);
    // The books had passed its end: all of its energy is a bound, and it is never settled.
    let late = json!({"gaps": [{
        "what": "late", "between": {"earliest": 10_000, "latest": 20_999}, "millijoules": "0",
    }]});
    let found = figures(&[node(&[closed("p", [10, 20], &Value::Null)], &late)]).unwrap();
    assert_eq!(found.figures.unsettled, 0);
}

/// A ledger that was made up may have any numbers.
#[test]
fn figures_that_are_too_large_stay_the_largest() {
    let most = u64::MAX.to_string();
    let energy = json!({"value": most, "below": most, "above": most});
    let more = json!({
        "energy": energy, "operatedMs": most,
        "methods": {"counter": energy, "shared": energy},
    });
    let pod = |uid| node(&[closed(uid, [10, 20], &more)], &Value::Null);
    let clock = json!({"kind": "clock", "at": 12_000, "backMs": most});
    let found = figures(&[clock.clone(), clock, pod("1"), pod("2")]).unwrap().figures;
    assert_eq!(found.gpu_ms.value, u64::MAX);
    assert_eq!(found.energy.iter().map(|it| it.mj.value).collect::<Vec<_>>(), [u64::MAX; 2]);
}

#[test]
fn a_job_is_interrupted_where_another_pod_follows_one_that_did_not_succeed() {
    let outcome = |outcome: &str| json!({ "outcome": outcome });
    let entries = [
        node(&[closed("1", [0, 50], &outcome("succeeded"))], &Value::Null),
        node(&[closed("2", [0, 20], &outcome("disrupted"))], &Value::Null),
        node(&[closed("3", [30, 50], &outcome("failed"))], &Value::Null),
    ];
    let found = figures(&entries).unwrap().figures;
    // The first one runs on meanwhile, and none follows the last one.
    assert_eq!((found.interrupted_pods, found.runs.len()), (1, 1));
    let found = figures(&entries[1..]).unwrap().figures;
    let runs: Vec<_> = found.runs.iter().map(|run| (run.from.0, run.until.0)).collect();
    assert_eq!(runs, [(0, 20_999), (30_000, 50_999)]);
}

/// Which devices a pod without a label had is known only if it had all.
#[test]
fn devices_are_those_of_labels_or_of_the_node() {
    let device = |id: &str, joined| json!({"id": id, "at": 1, "joined": joined});
    let joined = json!({"devices": [device("a", true), device("b", true), device("c", true)]});
    let left = json!({"devices": [device("c", false)]});
    let named = json!({"devices": ["a", "c"]});
    let entries = [
        node(&[], &joined),
        node(&[closed("1", [0, 10], &Value::Null)], &Value::Null),
        node(&[], &left),
        node(&[closed("2", [20, 30], &Value::Null)], &Value::Null),
        node(&[], &joined),
    ];
    let certain = |entries: &[Value]| -> Vec<(String, bool)> {
        let devices = figures(entries).unwrap().figures.devices;
        devices.into_iter().map(|one| (one.id.to_string(), one.certain)).collect()
    };
    let expected = |certain: [bool; 3]| {
        let ids = ["a", "b", "c"].map(ToOwned::to_owned);
        ids.into_iter().zip(certain).collect::<Vec<_>>()
    };
    assert_eq!(certain(&entries[..2]), expected([false; 3]));
    assert_eq!(certain(&entries), expected([true, true, false]));
    let labelled = [entries[0].clone(), node(&[closed("1", [0, 10], &named)], &Value::Null)];
    assert_eq!(certain(&labelled), [("a".to_owned(), true), ("c".to_owned(), true)]);
    // They follow from the entries that are kept.
    let kept = figures(&entries).unwrap().entries;
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

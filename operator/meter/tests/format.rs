//! The published form of entries: names and fields, each pinned to its spelling.
//!
//! Journals are kept for years, so a change here is a new version of the journal's form.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use daylight_base::Timestamp;
use daylight_meter::{
    Account, AuditorEvent, Entry, GapKind, JobKind, Method, NodeEntry, ObjectKind, Operating,
    Period, PodOutcome, Total, Use,
};
use serde::Serialize;
use serde_json::{Value, json};
use strum::VariantArray;

/// Asserts that the variants have these names, in this order, in JSON and in metric labels.
fn assert_names<T>(names: &[&str])
where
    T: VariantArray + Copy + Debug + Serialize + Into<&'static str>,
{
    let labels: Vec<&str> = T::VARIANTS.iter().map(|variant| (*variant).into()).collect();
    assert_eq!(labels, names);
    for (variant, name) in T::VARIANTS.iter().zip(names) {
        assert_eq!(serde_json::to_value(variant).unwrap(), json!(name));
    }
}

#[test]
fn methods_gaps_and_kinds_of_objects_keep_their_names() {
    assert_names::<Method>(&["counter", "power", "declared", "shared", "unexplained"]);
    assert_names::<GapKind>(&[
        "reset",
        "jump",
        "mismatch",
        "backwards",
        "unread",
        "left",
        "first",
        "unseen",
        "late",
    ]);
    assert_names::<ObjectKind>(&[
        "ActivityClass",
        "Declaration",
        "GpuPool",
        "Registration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]);
}

#[test]
fn uses_keep_their_names() {
    let lease = Use::Lease(Account { namespace: "ai".into(), ..Account::default() });
    assert_eq!(serde_json::to_value(&lease).unwrap(), json!({"lease": {"namespace": "ai"}}));
    assert_eq!(serde_json::to_value(Use::Idle).unwrap(), json!("idle"));
    assert_eq!(serde_json::to_value(Use::Unavailable).unwrap(), json!("unavailable"));
    let pod = Use::Pod(Account { namespace: "ai".into(), ..Account::default() });
    assert_eq!(serde_json::to_value(&pod).unwrap(), json!({"pod": {"namespace": "ai"}}));
    let labels = [&lease, &Use::Idle, &Use::Unavailable, &pod].map(Use::into_str);
    assert_eq!(labels, ["lease", "idle", "unavailable", "pod"]);
}

#[test]
fn entries_keep_their_kinds() {
    let start = Timestamp(0);
    let period = Period { registration: "mine/hall".into(), owner: None, start, end: Timestamp(1) };
    let entries = [
        (Entry::Node(Box::default()), "node"),
        (Entry::Nodes(Box::default()), "nodes"),
        (Entry::Period { period, at: start }, "period"),
        (Entry::Clock { at: start, back_ms: 1 }, "clock"),
        (
            Entry::Auditor { at: start, event: AuditorEvent::Started, version: "1.0.0".into() },
            "auditor",
        ),
        (
            Entry::Operating {
                registration: "mine/hall".into(),
                operating: Operating::default(),
                at: start,
            },
            "operating",
        ),
        (Entry::SnapshotBegin, "snapshotBegin"),
        (Entry::Total(Total::default()), "total"),
        (Entry::SnapshotEnd, "snapshotEnd"),
    ];
    for (entry, kind) in entries {
        assert_eq!(entry.into_str(), kind);
        assert_eq!(serde_json::to_value(&entry).unwrap()["kind"], kind);
    }
    for (kind, rest) in [
        (
            "object",
            r#""object": "GpuPool", "name": "", "uid": "", "generation": "1", "digest": """#,
        ),
        ("used", r#""registration": "", "start": 0, "millijoules": "1", "peakWatts": 1"#),
        ("settings", r#""signature": "required", "authorityKeys": []"#),
        ("settings", r#""signature": "required", "authorityKeys": [], "ledgerKeys": ["a+1+B"]"#),
        ("omitted", r#""of": "node", "bytes": "1", "digest": """#),
        (
            "closing",
            r#""number": "1", "first": "0", "until": 0, "accounts": "2", "deviceMs": "3",
               "millijoules": "4", "declaredMillijoules": "5", "podMs": "6", "root": """#,
        ),
    ] {
        let text = format!(r#"{{"kind": "{kind}", {rest}, "at": 0}}"#);
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap().into_str(), kind);
    }
}

/// Asserts that an entry is read and written back with exactly these fields.
fn assert_round_trip(form: &Value) {
    let entry: Entry = serde_json::from_value(form.clone()).unwrap();
    assert_eq!(serde_json::to_value(&entry).unwrap(), *form);
}

#[test]
fn the_state_of_a_node_keeps_its_fields() {
    let exactly = |at: u64| json!({"earliest": at, "latest": at});
    let energy = json!({"value": "30", "below": "1", "above": "2"});
    let facts = json!({"sharesAccepted": "1", "sharesRejected": "2", "hashes": "3", "seen": false});
    let account = json!({"class": "mining", "registration": "mine/hall", "namespace": "mine"});
    assert_round_trip(&json!({
        "kind": "node", "node": "gpu-7", "from": 10, "until": 20,
        "state": {
            "bookedUntil": 20, "boot": "b1", "clockSteps": 1, "pool": "hall", "usable": 1,
            "declaredUntil": 12, "undeclaredSince": 13,
            "devices": [{
                "id": "GPU-a", "model": "H100", "limitMw": 700_000, "joined": 10, "resets": 1,
                "last": {
                    "at": exactly(15), "counter": 5000, "power": 400, "reset": true,
                    "clock_steps": 1, "untimed": true, "holder": "mine/hall-0",
                },
                "counted": {"from": "4000", "booked": "1000"},
            }],
            "leases": [{
                "uid": "1b2c", "pod": "mine/hall-0", "account": account, "gpus": 1, "owed": true,
                "watts": 500, "bound": exactly(11), "started": exactly(12), "from": 11,
                "until": 19, "ended": exactly(19), "energy": energy, "devices": ["GPU-a"],
                "work": facts,
                "program": {"image": "r.io/miner:1", "endpoints": ["pool:1"]},
            }],
            "closed": ["1b2c"],
            "spans": [{
                "from": 10, "until": 20, "pool": "hall", "devices": 1, "offered": 1,
                "held": ["1b2c"],
            }],
        },
    }));
}

/// Entries of earlier versions have none of them: the other tests read those.
#[test]
fn what_a_lease_works_for_keeps_its_fields() {
    assert_names::<JobKind>(&["AIJob", "Job"]);
    assert_names::<PodOutcome>(&["succeeded", "failed", "deleted", "disrupted"]);
    let exactly = |at: u64| json!({"earliest": at, "latest": at});
    let amount = |value: &str| json!({"value": value, "below": "1", "above": "2"});
    let methods = json!({"counter": amount("20"), "shared": amount("10")});
    assert_round_trip(&json!({
        "kind": "node", "node": "gpu-7", "from": 10, "until": 20,
        "closed": [{
            "lease": {
                "uid": "1b2c", "pod": "ai/train-0", "account": {"class": "training", "namespace": "ai"},
                "gpus": 8, "watts": 0, "bound": exactly(11), "from": 11, "until": 19,
                "ended": exactly(19), "energy": amount("30"), "methods": methods,
                "job": {"kind": "AIJob", "name": "ai/train", "uid": "3d4e"},
                "images": [{"digest": "sha256:5f0c"}, {"requested": "r.io/logs:2"}], "moreImages": 1,
                "outcome": "succeeded",
            },
            "ended": exactly(19),
        }],
        "settled": [{"uid": "1b2c", "energy": amount("30"), "methods": methods}],
    }));
}

#[test]
fn operating_time_keeps_its_fields() {
    let exactly = |at: u64| json!({"earliest": at, "latest": at});
    let amount = |value: &str| json!({"value": value, "below": "1", "above": "2"});
    let account = json!({"class": "validator", "namespace": "stake"});
    // More than 64 bits hold.
    let much = "340282366920938463463374607431768211455";
    let operated = json!([{
        "pool": null, "account": account, "podMs": amount("10"), "endedMs": "4",
        "millicoreMs": amount("15000"), "memoryMibMs": amount("20480"), "storageMibMs": amount(much),
    }]);
    assert_round_trip(&json!({"kind": "total", "operated": operated}));
    let nothing = json!({"value": "0", "below": "0", "above": "0"});
    assert_round_trip(&json!({
        "kind": "node", "node": "cpu-7", "from": 10, "until": 20,
        "energy": [{
            "pool": null, "usage": {"pod": account}, "method": "declared", "mj": amount("30"),
        }],
        "operated": operated,
        "state": {
            "bookedUntil": 20, "clockSteps": 0, "pool": null, "usable": 0, "devices": [], "leases": [],
            "withoutGpus": [{
                "uid": "1b2c", "pod": "stake/validator-0", "account": account, "gpus": 0,
                "requested": {"millicores": 1500, "memoryMib": 2048, "storageMib": 10240},
                "watts": 40, "bound": exactly(11), "from": 11, "operatedMs": "9", "energy": nothing,
            }],
            "spans": [],
        },
    }));
    assert_round_trip(&json!({
        "kind": "operating", "registration": "stake/reg", "ms": "5", "since": 3, "at": 4,
    }));
    // What is nothing is left out.
    let ended = json!([{"pool": "hall", "account": {"namespace": "ai"}, "endedMs": "4"}]);
    assert_round_trip(&json!({"kind": "total", "operated": ended}));
}

#[test]
fn filings_keep_their_fields() {
    assert_round_trip(&json!({
        "kind": "object", "object": "Declaration", "name": "mine/hall-2026-11-c1", "uid": "n0FV",
        "generation": "1", "digest": "sha256:5f0c", "at": 9,
        "decision": {
            "state": "Filed", "by": "officer", "at": 8, "digest": "n0FV", "reference": "N-4711",
        },
        "declares": {"registration": "mine/hall", "period": "2026-11", "correction": 1},
    }));
}

#[test]
fn periods_keep_their_fields() {
    assert_round_trip(&json!({
        "kind": "period", "registration": "mine/hall", "owner": "a1b2", "start": 0, "end": 9,
        "at": 5,
    }));
    assert_round_trip(&json!({
        "kind": "used", "registration": "mine/hall", "owner": "a1b2", "start": 0, "end": 9,
        "millijoules": "5", "peakWatts": 3,
    }));
}

/// Unknown values are left out, except for pools: `null` is the pool of nodes in no pool.
#[test]
fn unknown_values_are_left_out() {
    let exactly = |at: u64| json!({"earliest": at, "latest": at});
    let nothing = json!({"value": "0", "below": "0", "above": "0"});
    assert_round_trip(&json!({
        "kind": "node", "node": "gpu-7", "from": 10, "until": 20,
        "time": [{"pool": null, "usage": "idle", "ms": {"value": "10", "below": "0", "above": "0"}}],
        "pools": [{"pool": null, "capacityMs": "10", "movedMj": "0", "overcommittedMs": "0", "gapMs": "0"}],
        "state": {
            "bookedUntil": 20, "clockSteps": 0, "pool": null, "usable": 1,
            "devices": [{"id": "GPU-a", "joined": 10, "resets": 0, "last": {"at": exactly(15), "clock_steps": 0}}],
            "leases": [{
                "uid": "1b2c", "pod": "mine/hall-0", "account": {"namespace": "mine"}, "gpus": 1,
                "watts": 0, "bound": exactly(11), "from": 11, "energy": nothing,
            }],
            "spans": [{"from": 10, "until": 20, "pool": null, "devices": 1, "offered": 1, "held": []}],
        },
    }));
    let empty = Entry::Node(Box::new(NodeEntry { node: "gpu-7".into(), ..NodeEntry::default() }));
    let form = json!({"kind": "node", "node": "gpu-7", "from": 0, "until": 0});
    assert_eq!(serde_json::to_value(&empty).unwrap(), form);
}

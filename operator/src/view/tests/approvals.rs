//! Registrations: the approved content, and the changes that void an approval.

use daylight_base::Timestamp;
use daylight_crds::{ActivityClass, GpuPool, Registration};
use daylight_planner::model::{Approval, Delta, Limits, Usage};
use serde_json::{Value, json};

use crate::view::digest;
use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{class, miner, patched, pool, registration};

fn digest_of(registration: &Value, class: Option<&Value>, pools: &[Value]) -> String {
    let read = |value: &Value| serde_json::from_value::<GpuPool>(value.clone()).unwrap();
    let pools: Vec<GpuPool> = pools.iter().map(read).collect();
    let class: Option<ActivityClass> =
        class.map(|class| serde_json::from_value(class.clone()).unwrap());
    let registration: Registration = serde_json::from_value(registration.clone()).unwrap();
    digest::spec_digest(&registration, class.as_ref(), |name| {
        pools.iter().find(|pool| pool.metadata.name.as_deref() == Some(name))
    })
}

fn approved(registration: &Value, digest: &str) -> Value {
    patched(
        registration,
        &json!({"status": {"approval": {
            "state": "Approved", "by": "olga", "at": "2026-11-23T00:00:00Z",
            "specDigest": digest, "digestVersion": 1, "generation": 1,
        }}}),
    )
}

fn approval(cluster: &TestCluster) -> Approval {
    cluster.registration("team/reg").unwrap().approval
}

#[test]
fn the_digest_is_frozen() {
    // If this fails, an upgrade would void every approval: see the rules in `digest`.
    let rich = patched(
        &registration("reg"),
        &json!({"spec": {
            "operator": {"identifiers": [{"scheme": "lei", "commitment": format!("sha256:{}", "0".repeat(64))}]},
            "limits": {"gpus": 16, "watts": 6_400, "energy": {"kwh": 900, "period": "Month"}},
            "payout": {"asset": "KAS", "algorithm": "kheavyhash", "poolEndpoints": ["pool.example.com:5555"]},
            "reporting": {"period": "Quarter", "dueDay": 10},
            "pools": ["b", "a"],
        }}),
    );
    let digest = digest_of(&rich, Some(&class("pow", "IdleOnly")), &[pool("a")]);
    assert_eq!(digest, "sha256:5733521590ab87209badcb8c801106b00b3a825277045a71de3300acb6b05174");
}

#[test]
fn an_approval_holds_for_what_was_approved() {
    let (reg, pow, a) = (registration("reg"), class("pow", "IdleOnly"), pool("a"));
    let digest = digest_of(&reg, Some(&pow), std::slice::from_ref(&a));
    let good = approved(&reg, &digest);
    let cluster = || TestCluster::with(&[a.clone(), pow.clone(), good.clone(), miner("m")]);
    assert_eq!(approval(&cluster()), Approval::Approved);

    // An edit of the registration voids it, and reverting the edit restores it.
    let mut edited = cluster();
    let deltas = edited.apply(&patched(&good, &json!({"spec": {"limits": {"gpus": 17}}})));
    assert!(matches!(&*deltas, [Delta::Registration(_)]), "{deltas:?}");
    assert_eq!(approval(&edited), Approval::Voided);
    edited.apply(&good);
    assert_eq!(approval(&edited), Approval::Approved);

    // So does an edit of the class.
    let mut edited = cluster();
    edited.apply(&patched(&pow, &json!({"spec": {"allowedImages": ["r.io/*"]}})));
    assert_eq!(approval(&edited), Approval::Voided);

    // The hardware and site of a pool count, and its mining settings do not.
    for (change, expected) in [
        (json!({"mining": {"policy": "Hold", "headroom": "5%", "maxGpus": 3}}), Approval::Approved),
        (json!({"queueing": "StrictFifo"}), Approval::Approved),
        (json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]}), Approval::Approved),
        (json!({"site": {"pue": "1.2"}}), Approval::Approved),
        (json!({"nodeSelector": {"matchLabels": {"more": "nodes"}}}), Approval::Voided),
        (json!({"deviceClasses": ["gpu.nvidia.com"]}), Approval::Voided),
        (json!({"site": {"timeZone": "Etc/UTC"}}), Approval::Voided),
    ] {
        let mut edited = cluster();
        edited.apply(&patched(&a, &json!({ "spec": change })));
        assert_eq!(approval(&edited), expected, "{change}");
    }

    // A class or pool that is gone is not what was approved.
    for gone in [&pow, &a] {
        let mut edited = cluster();
        edited.delete(gone);
        assert_eq!(approval(&edited), Approval::Voided);
    }

    // An unknown version of the rules, and another registration's digest.
    let version = patched(&good, &json!({"status": {"approval": {"digestVersion": 2}}}));
    assert_eq!(approval(&TestCluster::with(&[a.clone(), pow.clone(), version])), Approval::Voided);
    let other = approved(&registration("other"), &digest);
    let cluster = TestCluster::with(&[a.clone(), pow.clone(), other]);
    assert_eq!(cluster.registration("team/other").unwrap().approval, Approval::Voided);
}

#[test]
fn a_void_approval_names_what_changed() {
    let (reg, pow, a) = (registration("reg"), class("pow", "IdleOnly"), pool("a"));
    let good = approved(&reg, &digest_of(&reg, Some(&pow), std::slice::from_ref(&a)));
    let cluster = || TestCluster::with(&[a.clone(), pow.clone(), good.clone()]);
    let voided_by = |cluster: &TestCluster| {
        cluster.registration("team/reg").unwrap().voided_by.map(|by| by.to_string())
    };
    assert_eq!(voided_by(&cluster()), None);
    let mut edited = cluster();
    let edit = json!({"metadata": {"generation": 2}, "spec": {"limits": {"gpus": 17}}});
    edited.apply(&patched(&good, &edit));
    assert_eq!(voided_by(&edited).unwrap(), "its spec was edited");
    let mut edited = cluster();
    edited.delete(&a);
    assert_eq!(voided_by(&edited).unwrap(), "GpuPool a, which it names, does not exist");
    let mut edited = cluster();
    let created = json!({
        "metadata": {"creationTimestamp": "2026-11-23T08:00:00Z"},
        "spec": {"site": {"timeZone": "Etc/UTC"}},
    });
    edited.apply(&patched(&a, &created));
    assert_eq!(voided_by(&edited).unwrap(), "GpuPool a, which it names, was created after it");
    let mut edited = cluster();
    edited.apply(&patched(&pow, &json!({"spec": {"allowedImages": ["r.io/*"]}})));
    assert_eq!(
        voided_by(&edited).unwrap(),
        "ActivityClass pow or the nodes, resource or site of its pools (a) changed"
    );
}

#[test]
fn decisions_and_meter_readings_are_passed_on() {
    for (state, expected) in [
        ("Rejected", Approval::Rejected),
        ("Suspended", Approval::Suspended),
        ("Revoked", Approval::Revoked),
    ] {
        let decided = patched(
            &registration("reg"),
            &json!({"status": {"approval": {
                "state": state, "by": "olga", "at": "2026-11-23T00:00:00Z", "message": "no",
            }}}),
        );
        assert_eq!(approval(&TestCluster::with(&[decided])), expected);
    }
    let mut cluster = TestCluster::with(&[registration("reg")]);
    let metered = patched(
        &registration("reg"),
        &json!({
            "spec": {
                "operator": {"ownerPseudonym": "ab".repeat(32)},
                "limits": {"energy": {"kwh": 2, "period": "Day"}},
                "ownerLimits": {"watts": 900},
            },
            "status": {"usage": {
                "meteredUntil": "2026-11-24T06:00:00Z", "periodStart": "2026-11-24T00:00:00Z",
                "millijoules": "9007199254740993", "peakWatts": 310,
            }},
        }),
    );
    cluster.apply(&metered);
    let registration = cluster.registration("team/reg").unwrap();
    assert_eq!(registration.owner.as_deref(), Some(&*"ab".repeat(32)));
    assert_eq!(
        registration.limits,
        Limits { gpus: Some(16), watts: None, energy_mj: Some(7_200_000_000) }
    );
    assert_eq!(registration.owner_limits.watts, Some(900));
    assert_eq!(
        registration.usage,
        Some(Usage {
            metered_until: Timestamp::from_seconds(1_795_500_000),
            millijoules: 9_007_199_254_740_993,
            peak_watts: Some(310),
        })
    );
}

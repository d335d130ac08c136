//! The mirrors for admission, and the state of a registration in them.

use daylight_crds::{ActivityClass, GpuPool, Registration};
use daylight_planner::model::{Delta, Mirrored};
use serde_json::{Value, json};

use crate::view::digest;
use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{class, patched, pool, registration};
use daylight_cluster::Kind;

/// A registration whose present content is approved.
pub(super) fn approved(name: &str, with: &Value) -> Value {
    let object = patched(&registration(name), with);
    let read: Registration = serde_json::from_value(object.clone()).unwrap();
    let class: ActivityClass = serde_json::from_value(class("pow", "IdleOnly")).unwrap();
    let pool: GpuPool = serde_json::from_value(pool("a")).unwrap();
    let digest = digest::spec_digest(&read, Some(&class), |name| (name == "a").then_some(&pool));
    let approval = json!({
        "state": "Approved", "by": "olga", "at": "2026-11-23T00:00:00Z",
        "specDigest": digest, "digestVersion": 1, "generation": 1,
    });
    patched(&object, &json!({"status": {"approval": approval}}))
}

fn with(registrations: Vec<Value>) -> TestCluster {
    let mut objects = vec![pool("a"), class("pow", "IdleOnly")];
    objects.extend(registrations);
    TestCluster::with(&objects)
}

/// The `AdmissionList` that is intended.
fn mirror_of(cluster: &TestCluster) -> Value {
    let repair = cluster.view.mirror_repair(Kind::RegistrationMirror).unwrap();
    json!({
        "kind": "AdmissionList",
        "metadata": {"name": "registrations", "namespace": "daylight-system", "uid": "mirror"},
        "spec": {"entries": repair.wanted},
    })
}

fn mirrored(cluster: &TestCluster) -> Mirrored {
    cluster.registration("team/reg").unwrap().mirrored
}

#[test]
fn a_registration_is_mirrored_once_the_map_is_seen_to_hold_it() {
    let mut cluster = with(vec![approved("reg", &json!({}))]);
    assert_eq!(mirrored(&cluster), Mirrored::Pending);
    let map = mirror_of(&cluster);
    assert_eq!(
        map["spec"]["entries"],
        json!({"team.reg": "pow 2026-01-01T00:00:00Z 2027-01-01T00:00:00Z"})
    );
    let deltas = cluster.apply(&map);
    assert!(matches!(&deltas[..], [Delta::Registration(one)] if one.mirrored == Mirrored::Holds));
    assert_eq!(cluster.view.mirror_repair(Kind::RegistrationMirror), None);

    for damage in [
        json!({"spec": {"entries": {"team.reg": "pow"}}}),
        json!({"spec": {"entries": {"team.reg": null}}}),
        json!({"spec": null}),
    ] {
        cluster.apply(&patched(&map, &damage));
        assert_eq!(mirrored(&cluster), Mirrored::Pending, "{damage}");
        cluster.apply(&map);
        assert_eq!(mirrored(&cluster), Mirrored::Holds);
    }
    // A surplus entry grants nothing through Daylight, and is removed all the same.
    let surplus = "pow 2026-01-01T00:00:00Z 2027-01-01T00:00:00Z";
    let damage = json!({"spec": {"entries": {"team.other": surplus}}});
    cluster.apply(&patched(&map, &damage));
    assert_eq!(mirrored(&cluster), Mirrored::Holds);
    assert!(cluster.view.mirror_repair(Kind::RegistrationMirror).is_some());
    cluster.delete(&map);
    assert_eq!(mirrored(&cluster), Mirrored::Pending);
}

#[test]
fn what_gives_no_right_is_not_mirrored() {
    let reg = approved("reg", &json!({}));
    let mut cluster = with(vec![registration("pending"), reg.clone()]);
    cluster.apply(&mirror_of(&cluster));
    assert_eq!(cluster.view.mirror_repair(Kind::RegistrationMirror), None);
    // An edit voids the approval.
    cluster.apply(&patched(&reg, &json!({"spec": {"limits": {"gpus": 4711}}})));
    assert_eq!(mirror_of(&cluster)["spec"]["entries"], json!({}));
    cluster.apply(&reg);
    assert_eq!(cluster.view.mirror_repair(Kind::RegistrationMirror), None);
    // Its end.
    cluster.wait(400 * 86_400);
    assert_eq!(mirror_of(&cluster)["spec"]["entries"], json!({}));
}

#[test]
fn the_oldest_are_mirrored_where_not_all_fit() {
    let mut all = Vec::new();
    for index in 0..10_000 {
        let created = format!("2026-11-{:02}T00:00:{:02}Z", 2 + index % 20, index % 60);
        all.push(approved(
            &format!("registration-of-a-long-name-{index:05}"),
            &json!({"metadata": {"creationTimestamp": created}}),
        ));
    }
    let newest = json!({"metadata": {"creationTimestamp": "2026-11-23T00:00:00Z"}});
    all.push(approved("reg", &newest));
    let oldest = json!({"metadata": {"creationTimestamp": "2026-11-01T00:00:00Z"}});
    all.push(approved("first", &oldest));
    let mut cluster = with(all);
    let map = mirror_of(&cluster);
    let entries = &map["spec"]["entries"];
    assert_eq!(mirrored(&cluster), Mirrored::Full);
    assert!(entries.to_string().len() < 1 << 20);
    assert!(entries["team.first"].is_string());
    assert!(entries["team.reg"].is_null());
    assert!(entries.as_object().unwrap().len() > 5_000);
    cluster.apply(&map);
    assert_eq!(cluster.registration("team/first").unwrap().mirrored, Mirrored::Holds);
    assert_eq!(mirrored(&cluster), Mirrored::Full);
}

#[test]
fn classes_are_mirrored_with_their_images() {
    let images = json!({"spec": {"allowedImages": ["r.io/miners/*", "r.io/one:2"]}});
    let cluster = TestCluster::with(&[
        patched(&class("pow", "IdleOnly"), &images),
        patched(&class("train", "Guaranteed"), &json!({"spec": {"registration": "NotRequired"}})),
        class("odd.images", "IdleOnly"),
    ]);
    let repair = cluster.view.mirror_repair(Kind::ClassMirror).unwrap();
    assert_eq!(
        json!(repair.wanted),
        json!({
            "pow": "IdleOnly Required",
            "pow.images": r"^(r\.io/miners/.*|r\.io/one:2)$",
            "train": "Guaranteed NotRequired",
        })
    );
}

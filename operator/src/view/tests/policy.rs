//! Pools, classes, registrations and miners: their rules, and their problems.

use std::time::Duration;

use daylight_base::Timestamp;
use daylight_planner::model::{ClassAssignment, Delta, Headroom, MiningPolicy};
use daylight_planner::windows::Windows;
use serde_json::{Value, json};

use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    ai_job, class, miner, node, patched, pod, pool, registration,
};
use daylight_cluster::Kind;

#[test]
fn a_pool_says_how_it_mines() {
    let full = patched(
        &pool("a"),
        &json!({"spec": {"mining": {
            "policy": "Observe", "maxGpus": 100, "headroom": "5%", "powerBudgetWatts": 5000,
            "idleDelay": "1m30s", "minRunTime": "2m", "drainTimeout": "45s",
            "windows": [{"name": "night", "schedule": "0 22 * * *", "duration": "8h"}],
        }}}),
    );
    let mut cluster = TestCluster::with(&[full]);
    let snapshot = cluster.view.snapshot();
    let [pool] = &*snapshot.pools else { panic!() };
    assert_eq!(pool.policy, MiningPolicy::Observe);
    assert_eq!(pool.max_gpus, Some(100));
    assert_eq!(pool.headroom, Headroom::Percent(5));
    assert_eq!(pool.power_budget_watts, Some(5000));
    assert_eq!(pool.idle_delay, Duration::from_secs(90));
    assert_eq!(pool.min_run_time, Duration::from_mins(2));
    assert_eq!(pool.drain_timeout, Duration::from_secs(45));
    let Windows::Spans { spans, horizon } = &pool.windows else {
        panic!("{:?}", pool.windows);
    };
    // 22:00 in Oslo is 21:00 UTC in November.
    assert_eq!(spans[0].start, Timestamp(cluster.now.0 + 15 * 3_600_000));
    // A day later they are compiled further.
    let first = *horizon;
    assert_eq!(cluster.view.wake_at(), Some(Timestamp(cluster.now.0 + 24 * 3_600_000)));
    assert_eq!(cluster.wait(24 * 3600 - 1), []);
    let deltas = cluster.wait(1);
    let [Delta::Pool(pool)] = &*deltas else {
        panic!("{deltas:?}");
    };
    assert_eq!(pool.windows.horizon(), Some(Timestamp(first.0 + 24 * 3_600_000)));
}

#[test]
fn a_wrong_pool_says_why_and_stops_nothing_else() {
    for (change, expected) in [
        (
            json!({"site": {"timeZone": "Mars/Olympus"}}),
            "spec.site.timeZone \"Mars/Olympus\" is not in the IANA time zone database; use a name such as Europe/Berlin or Etc/UTC.",
        ),
        (
            json!({"mining": {"headroom": "a lot"}}),
            "spec.mining.headroom is \"a lot\"; write a count such as 8, or a percentage such as \"5%\".",
        ),
        (
            json!({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
            "spec.nodeSelector has the operator \"Near\", which does not exist; use In, NotIn, Exists or DoesNotExist.",
        ),
    ] {
        let wrong = patched(&pool("b"), &json!({ "spec": change }));
        let mut cluster = TestCluster::with(&[pool("a"), wrong]);
        let pools = cluster.view.snapshot().pools;
        assert_eq!(pools[0].problem, None);
        assert_eq!(pools[1].problem.as_deref(), Some(expected));
        assert_eq!(cluster.view.problem(Kind::GpuPool, "b"), Some(expected));
        // Corrected.
        cluster.apply(&pool("b"));
        assert_eq!(cluster.view.all_problems(), []);
        assert_eq!(cluster.view.snapshot().pools[1].problem, None);
    }
}

#[test]
fn an_object_that_cannot_be_read_is_left_out_and_named() {
    let broken = [
        patched(&pool("b"), &json!({"spec": {"mining": {"policy": "Guess"}}})),
        patched(&class("old", "IdleOnly"), &json!({"spec": {"category": null}})),
        patched(&registration("old"), &json!({"spec": {"validUntil": "soon"}})),
        patched(&miner("old"), &json!({"spec": {"replicas": "many"}})),
        patched(&ai_job("old", 1), &json!({"spec": {"gangTimeout": "a while"}})),
    ];
    let mut objects = vec![pool("a"), node("n1", "a"), class("pow", "IdleOnly"), miner("m")];
    objects.extend(broken.iter().cloned());
    let mut cluster = TestCluster::with(&objects);
    let snapshot = cluster.view.snapshot();
    assert_eq!((snapshot.pools.len(), snapshot.classes.len(), snapshot.miners.len()), (1, 1, 1));
    assert_eq!((snapshot.registrations.len(), snapshot.jobs.len()), (0, 0));
    let named: Vec<_> = cluster
        .view
        .all_problems()
        .into_iter()
        .map(|(kind, key, problem)| {
            assert!(problem.starts_with("The object cannot be read ("), "{problem}");
            format!("{kind} {key}")
        })
        .collect();
    assert_eq!(
        named,
        [
            "GpuPool b",
            "ActivityClass old",
            "Registration team/old",
            "Miner team/old",
            "AIJob ml/old"
        ]
    );
    // One that becomes unreadable counts as gone until it is corrected.
    let deltas = cluster.apply(&patched(&pool("a"), &json!({"spec": {"resource": 7}})));
    assert!(deltas.contains(&Delta::PoolGone("a".into())), "{deltas:?}");
    cluster.apply(&pool("a"));
    for object in &broken {
        cluster.delete(object);
    }
    assert_eq!(cluster.view.all_problems(), []);
}

#[test]
fn classes_say_what_they_may_be_given() {
    let cluster = TestCluster::with(&[
        class("a", "Guaranteed"),
        patched(&class("b", "IdleOnly"), &json!({"spec": {"rank": 5}})),
        class("c", "None"),
    ]);
    let classes = cluster.view.snapshot().classes;
    let given: Vec<_> = classes.iter().map(|class| (class.assignment, class.rank)).collect();
    assert_eq!(
        given,
        [
            (ClassAssignment::Guaranteed, 0),
            (ClassAssignment::IdleOnly, 5),
            (ClassAssignment::Prohibited, 0)
        ]
    );
}

#[test]
fn a_miner_must_stay_within_its_registration_and_class() {
    let base = || vec![pool("a"), class("pow", "IdleOnly"), registration("reg")];
    let problem = |objects: Vec<Value>, miner: Value| {
        let mut cluster = TestCluster::with(&objects);
        cluster.apply(&miner);
        cluster.miner("team/m").unwrap().problem.map(|problem| problem.to_string())
    };
    let silent = patched(&miner("m"), &json!({"spec": {"wattsPerReplica": null}}));
    assert_eq!(problem(base(), silent.clone()), None);
    for (at, change, who) in [
        (2, json!({"limits": {"watts": 9000}}), "Registration team/reg"),
        (2, json!({"limits": {"energy": {"kwh": 5, "period": "Day"}}}), "Registration team/reg"),
        (0, json!({"mining": {"powerBudgetWatts": 9000}}), "GpuPool a"),
    ] {
        let mut objects = base();
        objects[at] = patched(&objects[at], &json!({ "spec": change }));
        assert_eq!(
            problem(objects.clone(), silent.clone()).unwrap(),
            format!(
                "spec.wattsPerReplica is missing, but {who} limits power or energy; declare the most that a replica draws."
            )
        );
        assert_eq!(problem(objects, miner("m")), None);
    }
    let mut strict = base();
    strict[1] = patched(
        &strict[1],
        &json!({"spec": {"allowedImages": ["r.io/kaspa/*"], "algorithms": ["kheavyhash"]}}),
    );
    strict[2] = patched(
        &strict[2],
        &json!({"spec": {"payout": {"asset": "KAS", "algorithm": "kheavyhash", "poolEndpoints": ["p.io:1"]}}}),
    );
    let with = |spec: Value| patched(&miner("m"), &json!({ "spec": spec }));
    let image = json!({"image": "r.io/kaspa/miner:1"});
    for (spec, expected) in [
        (
            json!({}),
            "spec.image is r.io/miner:1, which ActivityClass pow does not allow; use one that matches r.io/kaspa/*.",
        ),
        (
            json!({"engine": {"name": "x", "algorithm": "randomx"}}),
            "spec.engine.algorithm is randomx, but the registration is for kheavyhash; use kheavyhash or file a new registration.",
        ),
        (
            json!({"poolEndpoints": ["p.io:1", "q.io:2"]}),
            "spec.poolEndpoints has q.io:2, which is not in the registration's payout.poolEndpoints; remove it or file a new registration.",
        ),
    ] {
        assert_eq!(problem(strict.clone(), with(spec)).unwrap(), expected);
    }
    let good = patched(
        &with(image),
        &json!({"spec": {"engine": {"name": "x", "algorithm": "kheavyhash"}, "poolEndpoints": ["p.io:1"]}}),
    );
    assert_eq!(problem(strict.clone(), good.clone()), None);
    // The class forbids the algorithm later.
    let mut cluster = TestCluster::with(&strict);
    cluster.apply(&good);
    cluster.apply(&patched(&strict[1], &json!({"spec": {"algorithms": ["randomx"]}})));
    assert_eq!(
        cluster.miner("team/m").unwrap().problem.as_deref(),
        Some(
            "spec.engine.algorithm is kheavyhash, which ActivityClass pow does not allow; use randomx."
        )
    );
}

#[test]
fn a_miners_revision_changes_with_what_its_pods_are_made_of() {
    let revision = |change: Value| {
        let cluster = TestCluster::with(&[patched(&miner("m"), &json!({ "spec": change }))]);
        assert_eq!(
            cluster.view.revision("team/m"),
            Some(cluster.miner("team/m").unwrap().revision)
        );
        cluster.miner("team/m").unwrap().revision
    };
    let first = revision(json!({}));
    for same in [
        json!({"replicas": 9}),
        json!({"weight": 7}),
        json!({"pools": ["a"]}),
        json!({"drainTimeout": "20s"}),
    ] {
        assert_eq!(revision(same.clone()), first, "{same}");
    }
    for other in [
        json!({"image": "r.io/miner:2"}),
        json!({"gpusPerReplica": 2}),
        json!({"wattsPerReplica": 301}),
        json!({"env": [{"name": "A", "value": "b"}]}),
        json!({"resources": {"cpu": "2"}}),
    ] {
        assert_ne!(revision(other.clone()), first, "{other}");
    }
    assert!(first < 1 << 53);
}

#[test]
fn a_registration_for_another_site_has_a_problem() {
    let elsewhere = patched(&pool("b"), &json!({"spec": {"site": {"name": "bergen"}}}));
    let both = patched(&registration("reg"), &json!({"spec": {"pools": ["a", "b"]}}));
    let cluster = TestCluster::with(&[pool("a"), elsewhere, both]);
    assert_eq!(
        cluster.registration("team/reg").unwrap().problem.as_deref(),
        Some(
            "spec.pools names b, which is at site bergen, but spec.site is oslo; register the work at bergen separately."
        )
    );
}

#[test]
fn a_status_that_changes_tells_nothing() {
    let mut cluster = TestCluster::with(&[
        pool("a"),
        class("pow", "IdleOnly"),
        miner("m"),
        ai_job("train", 1),
        pod("p", 1),
    ]);
    for object in [
        patched(&pool("a"), &json!({"status": {"gpus": {"total": 8}}})),
        patched(&class("pow", "IdleOnly"), &json!({"status": {"gpus": 3}})),
        patched(&miner("m"), &json!({"status": {"replicas": 3}})),
        patched(&ai_job("train", 1), &json!({"status": {"message": "waits"}})),
        patched(&pod("p", 1), &json!({"metadata": {"annotations": {"a": "b"}}})),
    ] {
        assert_eq!(cluster.apply(&object), []);
    }
}

#[test]
fn a_miner_that_is_being_deleted_wants_nothing() {
    let mut cluster = TestCluster::with(&[miner("m")]);
    let deltas = cluster.apply(&patched(
        &miner("m"),
        &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:00Z"}}),
    ));
    assert_eq!(deltas, [Delta::MinerGone("team/m".into())]);
}

#[test]
fn nothing_is_granted_in_a_namespace_that_ends() {
    let namespace = json!({"kind": "Namespace", "metadata": {"name": "team", "uid": "ns"}});
    let ending =
        patched(&namespace, &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:00Z"}}));
    let mut cluster = TestCluster::with(&[miner("m"), namespace]);
    assert!(cluster.miner("team/m").is_some());
    assert_eq!(cluster.apply(&ending), [Delta::MinerGone("team/m".into())]);
}

#[test]
fn a_registration_that_is_being_deleted_gives_no_right() {
    let mut cluster = TestCluster::with(&[registration("reg")]);
    let deltas = cluster.apply(&patched(
        &registration("reg"),
        &json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:00Z"}}),
    ));
    assert_eq!(deltas, [Delta::RegistrationGone("team/reg".into())]);
}

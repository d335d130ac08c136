//! What the policies cost: the API server's CPU time for each pod that is admitted.

use std::fmt::Write as _;

use daylight_testbed::Component;
use daylight_testbed::trials::{apply, trial};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::cluster::{CONTROLLER, Cluster, TENANT, classes, gpu_pod, miner, pod, registrations};
use crate::request::{Change, try_out};

/// Pods in one measurement.
const PODS: u16 = 3_000;
/// Requests at once.
const AT_ONCE: usize = 8;

#[apply(trial!)]
#[ignore = "a measurement: run it by name with --ignored"]
async fn cpu_time_of_an_admission(cluster: &Cluster) {
    // As many classes as a long list has.
    let mut listed = classes();
    for number in 0..45 {
        let name = format!("class-{number}");
        let class = json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "ActivityClass",
            "metadata": {"name": name},
            "spec": {"category": "DataIndustry", "assignment": "Guaranteed"},
        });
        let path = "/apis/daylight.dev/v1alpha1/activityclasses";
        cluster.make_as_admin(&Change::create(path, class)).await;
        listed[name] = json!("Guaranteed NotRequired");
    }
    cluster.lists(&registrations(), &listed).await;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let mut table = String::new();
    let subjects = [
        ("a plain pod", TENANT, pod("work", "nginx")),
        ("an AI pod with one GPU", TENANT, gpu_pod("work", Some("ai-training"))),
        (
            "an AI pod of a class that is not in guaranteedClasses",
            TENANT,
            gpu_pod("work", Some("class-1")),
        ),
        ("a miner's pod", CONTROLLER, miner("work")),
    ];
    let mut with = Vec::new();
    for (_, who, object) in &subjects {
        with.push(cpu_microseconds(cluster, who, object).await);
    }
    let policies = ["delete", "validatingadmissionpolicybindings", "--all"];
    cluster.control_plane.kubectl_ok(policies).await.unwrap();
    let policies = ["delete", "validatingadmissionpolicies", "--all"];
    cluster.control_plane.kubectl_ok(policies).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    for ((what, who, object), with) in subjects.iter().zip(with) {
        let without = cpu_microseconds(cluster, who, object).await;
        let _ = writeln!(
            table,
            "{what}: {without} us without, {with} us with, {} us more",
            with - without
        );
    }
    cluster.set_mode("Audit").await;
    cluster.set_mode("Enforce").await;
    println!(
        "CPU time of the API server a pod ({PODS} dry-run creations, {AT_ONCE} at once, 50 classes):\n{table}load before: {load}"
    );
}

/// The API server's CPU time for each of [`PODS`] creations that are admitted and not stored.
async fn cpu_microseconds(cluster: &Cluster, who: &str, object: &Value) -> i64 {
    let client = cluster.client(who).await;
    let change = Change::create("/api/v1/namespaces/tenant-a/pods", object.clone());
    let many = |count: u16| {
        stream::iter(0..count)
            .map(|_| async {
                let answer = try_out(&client, &change).await;
                assert!(answer.is_admitted(), "{}", answer.message());
            })
            .buffer_unordered(AT_ONCE)
            .count()
    };
    many(300).await;
    let begun = ticks(cluster);
    many(PODS).await;
    let ended = ticks(cluster);
    // The kernel counts in hundredths of a second.
    (ended - begun) * 10_000 / i64::from(PODS)
}

/// User and system time of the API server.
fn ticks(cluster: &Cluster) -> i64 {
    let process = cluster.control_plane.process_id(Component::ApiServer).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<i64>().unwrap() + fields[12].parse::<i64>().unwrap()
}

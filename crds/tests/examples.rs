//! The examples: complete, and valid by the rules that the API server will apply.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::{collections::BTreeMap, fs, path::Path};

use daylight_crds::{
    ActivityCategory, ActivityClass, AiJob, Assignment, GpuPool, Miner, MiningPolicy, Registration,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[test]
fn the_site_is_complete() {
    let examples = examples();
    let count = |kind: &str| examples.iter().filter(|object| object["kind"] == kind).count();
    let counts: BTreeMap<&str, usize> =
        ["GpuPool", "ActivityClass", "Registration", "Miner", "AIJob"]
            .map(|kind| (kind, count(kind)))
            .into();
    assert_eq!(
        counts,
        [("GpuPool", 1), ("ActivityClass", 10), ("Registration", 3), ("Miner", 1), ("AIJob", 3)]
            .into()
    );
}

#[test]
fn every_object_reads_back_as_written() {
    for object in examples().into_iter().chain(quick_start()) {
        match object["kind"].as_str().unwrap() {
            "GpuPool" => reads_back::<GpuPool>(&object),
            "ActivityClass" => reads_back::<ActivityClass>(&object),
            "Registration" => reads_back::<Registration>(&object),
            "Miner" => reads_back::<Miner>(&object),
            "AIJob" => reads_back::<AiJob>(&object),
            _ => {}
        }
    }
}

#[test]
fn every_object_keeps_the_rules() {
    for object in examples().into_iter().chain(quick_start()) {
        let outcome = match object["kind"].as_str().unwrap() {
            "GpuPool" => read::<GpuPool>(&object).validate_cel(),
            "ActivityClass" => read::<ActivityClass>(&object).validate_cel(),
            "Registration" => read::<Registration>(&object).validate_cel(),
            "Miner" => read::<Miner>(&object).validate_cel(),
            "AIJob" => read::<AiJob>(&object).validate_cel(),
            _ => Ok(()),
        };
        outcome.unwrap_or_else(|errors| panic!("{}: {errors}", object["metadata"]["name"]));
    }
}

#[test]
fn the_pool_only_observes() {
    let pool: GpuPool = read(&only("GpuPool"));
    assert_eq!(pool.spec.mining.policy, MiningPolicy::Observe);
}

#[test]
fn names_refer_to_what_is_there() {
    let pool: GpuPool = read(&only("GpuPool"));
    let registrations: Vec<Registration> = all("Registration").iter().map(read).collect();
    let [registration, light @ ..] = &registrations[..] else { panic!() };
    let miner: Miner = read(&only("Miner"));
    let classes: BTreeMap<String, ActivityClass> = all("ActivityClass")
        .iter()
        .map(read::<ActivityClass>)
        .map(|class| (class.metadata.name.clone().unwrap(), class))
        .collect();

    assert_eq!(registration.spec.pools, [pool.metadata.name.unwrap()]);
    assert_eq!(registration.spec.site, pool.spec.site.name);
    assert_eq!(miner.metadata.namespace, registration.metadata.namespace);
    assert_eq!(Some(miner.spec.registration), registration.metadata.name);

    // Work without GPUs: its registrations name no pool, and its pods name them.
    for (registration, workload) in light.iter().zip([&only("StatefulSet"), &only("Deployment")]) {
        assert!(registration.spec.pools.is_empty());
        assert_eq!(registration.spec.site, pool.spec.site.name);
        let labels = &workload["spec"]["template"]["metadata"]["labels"];
        assert_eq!(
            labels["daylight.dev/registration"],
            *registration.metadata.name.as_ref().unwrap()
        );
        assert_eq!(labels["daylight.dev/activity"], *registration.spec.activity_class);
        let class = &classes[&registration.spec.activity_class];
        assert_eq!(class.spec.assignment, Assignment::Guaranteed);
    }

    let class = &classes[&registration.spec.activity_class];
    assert_eq!(class.spec.assignment, Assignment::IdleOnly);
    let algorithm = miner.spec.engine.unwrap().algorithm.unwrap();
    assert!(class.spec.algorithms.contains(&algorithm));
    for job in all("AIJob") {
        let job: AiJob = read(&job);
        let class = &classes[&job.spec.activity_class];
        assert_eq!(class.spec.category, ActivityCategory::DataIndustry);
    }
}

fn examples() -> Vec<Value> {
    objects_in("../examples")
}

fn quick_start() -> Vec<Value> {
    let objects = objects_in("../examples/quick-start");
    assert_eq!(objects.len(), 8);
    objects
}

fn objects_in(directory: &str) -> Vec<Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            serde_saphyr::from_multiple::<Value>(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
        .collect()
}

fn all(kind: &str) -> Vec<Value> {
    let mut objects = examples();
    objects.retain(|object| object["kind"] == kind);
    objects
}

fn only(kind: &str) -> Value {
    let mut objects = all(kind);
    assert_eq!(objects.len(), 1, "{kind}");
    objects.remove(0)
}

fn read<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", object["metadata"]["name"]))
}

/// Every field of a file must be unchanged after reading and writing it.
fn reads_back<T: DeserializeOwned + Serialize>(object: &Value) {
    let written = serde_json::to_value(read::<T>(object)).unwrap();
    contains(&written, object, &object["metadata"]["name"].to_string());
}

fn contains(whole: &Value, part: &Value, path: &str) {
    match part {
        Value::Object(members) => {
            for (name, member) in members {
                contains(&whole[name], member, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                contains(&whole[index], item, &format!("{path}[{index}]"));
            }
        }
        // A quantity may be written as a number; it comes back as a string.
        Value::Number(number) if whole.is_string() => {
            assert_eq!(whole.as_str(), Some(number.to_string().as_str()), "{path}");
        }
        _ => assert_eq!(whole, part, "{path}"),
    }
}

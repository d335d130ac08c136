//! What the bookkeeper makes of a cluster, with the objects as the API server sends them.

use daylight_base::{Name, Timestamp};
use daylight_cluster::Round;
use daylight_crds::LeaseRecord;
use daylight_meter::{
    Account, Config, Entry, JobKind, Lease, Meter, ObservedSettings, PodOutcome, SignatureRule,
    StopInForce, Use,
};
use serde_json::{Value, json};

use super::leases::LONGEST_UNSEEN_MS;
use super::*;
use crate::view::tests::test_cluster::{
    ChangeKind, START, all_listed, class, ended, event, lease, miner, node, patched, pod, pool,
    registration, running,
};

/// Milliseconds of a second.
const SECOND: u64 = 1000;

struct Site {
    books: Bookkeeper,
    version: u64,
    now: Timestamp,
}

impl Site {
    /// A site of one node with eight GPUs, whose auditor has just begun its books.
    fn new(objects: &[Value]) -> Self {
        Self::after(Meter::new(Config::default()), objects)
    }

    fn after(meter: Meter, objects: &[Value]) -> Self {
        let resources = GpuResources::new(["nvidia.com/*", "amd.com/gpu"]);
        let settings = BookSettings { resources, ..BookSettings::default() };
        let mut site = Self { books: Bookkeeper::new(meter, settings), version: 100, now: START };
        for object in [pool("a"), node("n1", "a"), class("pow", "IdleOnly"), registration("reg")]
            .iter()
            .chain(objects)
        {
            site.apply_as(object, ChangeKind::Item);
        }
        for listed in all_listed(100, Round(0)) {
            site.books.apply(listed, START);
        }
        site
    }

    fn begin(mut self) -> Self {
        self.books.begin(self.now);
        self
    }

    fn apply_as(&mut self, object: &Value, kind: ChangeKind) {
        self.version += 1;
        let version = match kind {
            ChangeKind::Item => 1,
            _ => self.version,
        };
        let version = json!({"metadata": {"resourceVersion": version.to_string()}});
        self.books.apply(event(&patched(object, &version), kind), self.now);
    }

    fn apply(&mut self, object: &Value) {
        self.apply_as(object, ChangeKind::Applied);
    }

    fn delete(&mut self, object: &Value) {
        self.apply_as(object, ChangeKind::Deleted);
    }

    /// Lets time pass, and books it.
    fn wait(&mut self, seconds: u64) {
        self.now = self.now.plus_millis(seconds * SECOND);
        self.books.meter.advance(self.now);
    }

    fn record(&mut self, record: &LeaseRecord) {
        let there = self.books.pods_there();
        self.books.take_record(record, &there, self.now);
    }

    /// GPU-seconds of each account, by class and registration.
    fn held(&self) -> Vec<(String, u64)> {
        let books = self.books.meter.books();
        let held = books.time.iter().filter_map(|(key, ms)| match &key.usage {
            Use::Lease(Account { class, registration, namespace }) => {
                let text = |name: &Option<Name>| name.as_deref().unwrap_or("-").to_owned();
                let account = format!("{} {} {namespace}", text(class), text(registration));
                Some((account, ms.value / SECOND))
            }
            _ => None,
        });
        held.filter(|(_, seconds)| *seconds > 0).collect()
    }

    /// The leases that have ended.
    fn closed(&mut self) -> Vec<Lease> {
        self.books.meter.flush();
        let entries = self.books.meter.take_entries().into_iter();
        let nodes = entries.filter_map(|entry| match entry {
            Entry::Node(node) => Some(node.closed),
            _ => None,
        });
        nodes.flatten().map(|closed| closed.lease).collect()
    }
}

/// A pod of the class, bound to `n1`.
fn bound(name: &str, gpus: u32, class: &str) -> Value {
    let labelled = json!({"metadata": {"labels": {"daylight.dev/activity": class}}});
    patched(&running(&pod(name, gpus), "n1"), &labelled)
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_millisecond(START.0 + seconds * 1000).unwrap().to_string()
}

/// A record of a pod that was bound at the start and ended after ten seconds.
fn record(spec: &Value) -> LeaseRecord {
    let record = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "LeaseRecord",
        "metadata": {"name": "r", "namespace": "team", "uid": "r", "creationTimestamp": time(70)},
        "spec": {
            "pod": "p", "podUid": "unknown", "node": "n1", "resource": "nvidia.com/gpu", "gpus": 1,
            "activityClass": "pow", "registration": "reg", "boundAt": time(0),
            "finishedAt": time(10), "seenEndedAt": time(70),
        },
    });
    serde_json::from_value(patched(&record, &json!({ "spec": spec }))).unwrap()
}

#[test]
fn labels_that_users_make_up_are_one_account() {
    let mut site = Site::new(&[]).begin();
    for number in 0..4 {
        site.apply(&bound(&format!("p{number}"), 1, &format!("x-{number}")));
    }
    let unknown = json!({"metadata": {"labels": {"daylight.dev/registration": "made-up"}}});
    site.apply(&patched(&bound("q", 1, "pow"), &unknown));
    site.wait(10);
    let held: Vec<String> = site.held().into_iter().map(|(account, _)| account).collect();
    assert_eq!(held, ["pow ml/unlisted ml", "unlisted - ml"]);
    let unlisted = site.books.unlisted();
    assert_eq!(unlisted.values().sum::<u64>(), 4);
    assert!(unlisted.keys().all(|one| one.class.as_deref() == Some("unlisted")), "{unlisted:?}");
}

#[test]
fn a_class_that_arrives_with_its_pod_has_its_account() {
    let mut site = Site::new(&[]).begin();
    site.apply(&bound("p", 1, "new"));
    site.apply(&class("new", "Guaranteed"));
    site.wait(10);
    assert_eq!(site.held(), [("new - ml".to_owned(), 10)]);
    // Afterwards the account stays, whatever becomes of the class.
    site.delete(&class("new", "Guaranteed"));
    site.apply(&bound("p", 1, "new"));
    site.wait(10);
    assert_eq!(site.held(), [("new - ml".to_owned(), 20)]);
}

#[test]
fn a_prohibited_class_is_off_the_list_and_keeps_its_name() {
    let mut site = Site::new(&[class("prohibited-pow", "None")]).begin();
    site.apply(&bound("p", 2, "prohibited-pow"));
    site.wait(10);
    assert_eq!(site.held(), [("prohibited-pow - ml".to_owned(), 20)]);
    assert_eq!(site.books.unlisted().values().sum::<u64>(), 2);
}

#[test]
fn slices_and_second_resources_are_leased() {
    let more =
        json!({"status": {"allocatable": {"nvidia.com/mig-3g.40gb": "2", "amd.com/gpu": "4"}}});
    let mut site = Site::new(&[patched(&node("n1", "a"), &more)]).begin();
    let requests = |requests: Value| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    let slice = requests(json!({"nvidia.com/mig-3g.40gb": "1"}));
    site.apply(&patched(&bound("slice", 0, "slices"), &slice));
    let both = requests(json!({"nvidia.com/gpu": "1", "amd.com/gpu": "2"}));
    site.apply(&patched(&bound("both", 0, "pow"), &both));
    site.wait(10);
    let held = site.held();
    assert_eq!(held, [("pow - ml".to_owned(), 30), ("unlisted - ml".to_owned(), 10)]);
}

#[test]
fn a_pod_that_no_node_can_serve_takes_no_more_than_the_node() {
    let mut site = Site::new(&[]).begin();
    site.apply(&bound("p", u32::MAX, "pow"));
    site.wait(3600);
    assert_eq!(site.held(), [("pow - ml".to_owned(), 8 * 3600)]);
    site.books.meter.check().unwrap();
}

#[test]
fn an_end_in_the_future_is_now() {
    let mut site = Site::new(&[]).begin();
    let pod = bound("p", 1, "pow");
    site.apply(&pod);
    site.wait(10);
    let status = json!({"status": {"containerStatuses": [{
        "name": "c", "image": "i", "state": {"terminated": {"finishedAt": time(1_000_000)}},
    }]}});
    site.apply(&patched(&ended(&pod, "Succeeded"), &status));
    site.wait(10);
    assert_eq!(site.held(), [("pow - ml".to_owned(), 10)]);
    assert_eq!(site.closed().len(), 1);
}

/// A worker of the AIJob `train`, whose Job is `j`.
fn worker_of(site: &mut Site, name: &str) -> Value {
    let job = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
        "metadata": {"name": "train", "namespace": "ml", "uid": "ai"},
        "spec": {"activityClass": "pow", "template": {"spec": {"containers": []}}},
    });
    let owner = |kind: &str, name: &str, uid: &str| {
        json!([{
            "apiVersion": "x/v1", "kind": kind, "name": name, "uid": uid, "controller": true,
        }])
    };
    let batch = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": "train", "namespace": "ml", "uid": "j", "ownerReferences": owner("AIJob", "train", "ai"),
        },
    });
    site.apply(&job);
    site.apply(&batch);
    let digest = format!("r.io/train@sha256:{}", "5f".repeat(32));
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let pod = patched(
        &bound(name, 1, "pow"),
        &json!({
            "metadata": {
                "labels": {"daylight.dev/aijob": "train"}, "ownerReferences": owner("Job", "train", "j"),
            },
            "status": {"containerStatuses": [
                {"name": "c", "image": "r.io/train:2", "imageID": digest, "state": {}},
                {"name": "local", "image": "local", "imageID": "sha256:0123", "state": {}},
            ]},
        }),
    );
    let mut pod = pod;
    let gpus = pod["spec"]["containers"][0]["resources"].clone();
    pod["spec"]["containers"] = json!([
        {"name": "c", "image": "r.io/train:2", "resources": gpus}, container("local", "local"),
    ]);
    pod
}

#[test]
fn a_lease_has_its_job_its_images_and_its_outcome() {
    let mut site = Site::new(&[]).begin();
    let pod = worker_of(&mut site, "train-0");
    site.apply(&pod);
    // A label that is made up, and an owner whose name is no name.
    let forged = json!({"metadata": {"labels": {"daylight.dev/aijob": "train"}}});
    site.apply(&patched(&bound("forged", 1, "pow"), &forged));
    let long = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "batch/v1", "kind": "Job", "name": "x".repeat(100_000), "uid": "u", "controller": true,
    }]}});
    let mut many = patched(&bound("long", 1, "pow"), &long);
    let gpus = many["spec"]["containers"][0]["resources"].clone();
    let container =
        |number: usize| json!({"name": format!("c{number}"), "image": "é".repeat(300 + number)});
    let mut containers: Vec<Value> = (0..20).map(container).collect();
    containers[0]["resources"] = gpus;
    many["spec"]["containers"] = json!(containers);
    site.apply(&many);
    site.wait(10);
    // The job is gone before its pods are.
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": "ml", "uid": "j"}});
    site.delete(&job);
    site.apply(&patched(
        &ended(&pod, "Failed"),
        &json!({"status": {"conditions": [
            {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": time(5)},
        ]}}),
    ));
    site.delete(&many);
    site.wait(10);
    let closed = site.closed();
    let of = |name: &str| closed.iter().find(|lease| &*lease.pod == name).unwrap();
    let worker = of("ml/train-0");
    let job = worker.job.as_deref().unwrap();
    assert_eq!((job.kind, &*job.name, &*job.uid), (JobKind::AIJob, "ml/train", "ai"));
    let images: Vec<(Option<&str>, Option<&str>)> =
        worker.images.iter().map(|one| (one.digest.as_deref(), one.requested.as_deref())).collect();
    let digest = format!("sha256:{}", "5f".repeat(32));
    assert_eq!(images, [(Some(&*digest), None), (None, Some("local"))]);
    assert_eq!(worker.outcome, Some(PodOutcome::Disrupted));
    let long = of("ml/long");
    assert_eq!((&long.job, long.outcome), (&None, None));
    // All are equal once they are cut.
    assert_eq!((long.images.len(), long.more_images), (1, 0));
    assert_eq!(long.images[0].requested.as_deref().map(str::len), Some(254));
    site.apply(&patched(&ended(&bound("forged", 1, "pow"), "Succeeded"), &forged));
    site.wait(10);
    let forged = site.closed().remove(0);
    assert_eq!((forged.job, forged.outcome), (None, Some(PodOutcome::Succeeded)));
}

#[test]
fn a_record_of_a_pod_that_runs_changes_nothing() {
    let mut site = Site::new(&[]).begin();
    let mine = running(&lease("m", "n1", 0), "n1");
    site.apply(&mine);
    site.wait(10);
    let name = mine["metadata"]["name"].as_str().unwrap();
    for spec in [
        json!({"pod": name, "podUid": mine["metadata"]["uid"]}),
        // Another one's name for it, and an end that never comes.
        json!({"podUid": mine["metadata"]["uid"], "finishedAt": "2099-01-01T00:00:00Z"}),
    ] {
        site.record(&record(&spec));
    }
    site.wait(60);
    assert_eq!(site.held(), [("pow team/reg team".to_owned(), 70)]);
    assert_eq!(site.closed(), []);
}

#[test]
fn a_record_ends_the_lease_of_its_own_pod_only() {
    let mine = running(&lease("m", "n1", 0), "n1");
    let (name, uid) = (mine["metadata"]["name"].clone(), mine["metadata"]["uid"].clone());
    let mut before = Site::new(&[]).begin();
    before.apply(&mine);
    before.wait(10);
    before.books.meter.flush();
    let entries = before.books.meter.snapshot();
    for (spec, ends) in [
        (json!({"pod": name, "podUid": uid, "finishedAt": time(30)}), time(30)),
        // The pod is gone, and the record is of another pod: its end was not observed.
        (json!({"pod": "other", "podUid": uid, "finishedAt": time(30)}), time(10)),
    ] {
        let meter = Meter::restore(Config::default(), entries.clone()).unwrap();
        let mut site = Site::after(meter, &[]);
        site.now = START.plus_millis(80 * SECOND);
        site.record(&record(&spec));
        let mut site = site.begin();
        site.wait(10);
        let [closed] = &site.closed()[..] else { panic!("one lease ends") };
        let earliest = closed.ended.unwrap().earliest;
        assert_eq!(earliest, Timestamp(ends.parse::<jiff::Timestamp>().unwrap().as_millisecond()));
    }
}

#[test]
fn a_record_of_an_unknown_pod_is_cut_to_what_is_possible() {
    let mut site = Site::new(&[]).begin();
    site.wait(80);
    site.record(&record(&json!({
        "gpus": 1_000_000, "watts": 1_000_000_000, "boundAt": "1970-01-01T00:00:00Z",
        "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2099-01-01T00:00:00Z",
        "seenEndedAt": "2098-01-01T00:00:00Z", "pool": "made-up", "activityClass": "made-up",
        "registration": "made-up",
    })));
    site.wait(10);
    let [closed] = &site.closed()[..] else { panic!("one lease ends") };
    assert_eq!((closed.gpus, closed.watts), (8, 80_000));
    assert_eq!(closed.account.class.as_deref(), Some("unlisted"));
    assert_eq!(closed.account.registration.as_deref(), Some("team/unlisted"));
    let ended = closed.ended.unwrap();
    let latest = START.plus_millis(70 * SECOND + 999);
    assert!(ended.latest <= latest, "{ended:?}");
    // No journal came before: a lease of a month is the most that can be unseen.
    let month = LONGEST_UNSEEN_MS + 71 * SECOND;
    assert!(closed.bound.earliest >= latest.minus_millis(month), "{:?}", closed.bound);
    let books = site.books.meter.books();
    assert!(books.pools.keys().all(|pool| pool.as_deref() == Some("a")), "{:?}", books.pools);
    books.check().unwrap();
}

#[test]
fn a_record_does_not_reach_behind_the_journal() {
    let mut before = Site::new(&[]).begin();
    before.wait(3600);
    let meter = Meter::restore(Config::default(), before.books.meter.snapshot()).unwrap();
    let mut site = Site::after(meter, &[]);
    site.now = START.plus_millis(3700 * SECOND);
    let mut old = record(&json!({"finishedAt": time(3650), "seenEndedAt": time(3650)}));
    old.metadata.creation_timestamp = serde_json::from_value(json!(time(3660))).unwrap();
    site.record(&old);
    let mut site = site.begin();
    site.wait(10);
    let [closed] = &site.closed()[..] else { panic!("one lease ends") };
    assert_eq!(closed.bound.earliest, START.plus_millis(3600 * SECOND - UNWRITTEN_MS));
}

#[test]
fn a_closed_lease_names_its_image_and_endpoints() {
    let mut site = Site::new(&[miner("m")]).begin();
    let endpoints = json!({"spec": {"poolEndpoints": ["pool.example.com:5555"]}});
    site.apply(&patched(&miner("m"), &endpoints));
    let mine = running(&lease("m", "n1", 0), "n1");
    site.apply(&mine);
    site.wait(10);
    // The kubelet reports the image after the binding.
    let status = json!({"status": {"containerStatuses": [{
        "name": "miner", "image": "r.io/miner:1", "state": {"running": {}},
    }]}});
    site.apply(&patched(&mine, &status));
    site.wait(10);
    site.delete(&mine);
    site.wait(10);
    let [closed] = &site.closed()[..] else { panic!("one lease ends") };
    let program = closed.program.as_ref().unwrap();
    assert_eq!(&*program.image, "r.io/miner:1");
    assert_eq!(program.endpoints, ["pool.example.com:5555".into()]);
}

#[test]
fn what_decides_is_on_record() {
    let stop = json!({
        "kind": "ConfigMap", "metadata": {"name": "stop", "namespace": "d", "uid": "s"},
        "data": {"by": "ann", "reason": "smoke"},
    });
    let mut site = Site::new(&[]).begin();
    let settings = |site: &mut Site| -> Vec<ObservedSettings> {
        let entries = site.books.meter.take_entries().into_iter();
        let settings = entries.filter_map(|entry| match entry {
            Entry::Settings(entry) => Some(entry.seen),
            _ => None,
        });
        settings.collect()
    };
    let [first] = &settings(&mut site)[..] else { panic!("the settings at the start") };
    assert_eq!((first.signature, &first.emergency_stop), (SignatureRule::Optional, &None));
    site.apply(&stop);
    let [stopped] = &settings(&mut site)[..] else { panic!("a stop") };
    assert_eq!(stopped.emergency_stop, Some(StopInForce { by: "ann".into() }));
    site.delete(&stop);
    assert_eq!(settings(&mut site), std::slice::from_ref(first));
    let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let keys = json!({
        "kind": "ConfigMap",
        "metadata": {"name": "daylight-authority-keys", "namespace": "d", "uid": "k"},
        "data": {"first": key},
    });
    site.apply(&keys);
    let [with_key] = &settings(&mut site)[..] else { panic!("a key") };
    assert_eq!(with_key.authority_keys, [Name::from(key)]);
}

/// A pod of 2 CPUs and 3 GiB without GPUs, bound to a node.
fn light(name: &str, node: &str, labels: &Value) -> Value {
    let requests = json!({"cpu": "2", "memory": "3Gi"});
    let spec = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
    let mut light = patched(&running(&pod(name, 0), node), &json!({ "spec": spec }));
    light["metadata"]["labels"] = labels.clone();
    light
}

fn namespace(name: &str, class: Option<&str>) -> Value {
    let labels = class.map(|class| json!({"daylight.dev/activity": class})).unwrap_or(json!({}));
    json!({"kind": "Namespace", "metadata": {"name": name, "uid": name, "labels": labels}})
}

impl Site {
    /// Pod-seconds of each account, with what may be missing and what may be too much.
    fn operated(&self) -> Vec<(String, [u64; 3])> {
        let books = self.books.meter.books();
        let mut sums: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        for ((_, Account { class, registration, namespace }), operated) in &books.operated {
            let text = |name: &Option<Name>| name.as_deref().unwrap_or("-").to_owned();
            let account = format!("{} {} {namespace}", text(class), text(registration));
            let [value, below, above] = sums.entry(account).or_default();
            *value += operated.pod_ms.value / SECOND;
            *below += operated.pod_ms.below / SECOND;
            *above += operated.pod_ms.above / SECOND;
        }
        sums.into_iter().collect()
    }

    fn restarted(mut self, objects: &[Value], seconds: u64) -> Self {
        self.books.meter.flush();
        let entries = self.books.meter.snapshot();
        let meter = Meter::restore(Config::default(), entries).unwrap();
        let mut site = Self::after(meter, objects);
        site.version = 1000;
        site.now = self.now.plus_millis(seconds * SECOND);
        site.begin()
    }
}

#[test]
fn pods_without_gpus_are_on_record_if_a_label_of_theirs_or_their_namespaces_says_so() {
    let mut site = Site::new(&[class("store", "Guaranteed")]).begin();
    site.apply(&namespace("ml", None));
    let activity = |class: &str| json!({"daylight.dev/activity": class});
    // On a node of which nothing is known, too.
    site.apply(&light("a", "n1", &activity("store")));
    site.apply(&light("b", "cpu-1", &activity("made-up")));
    site.apply(&light("c", "cpu-1", &json!({"daylight.dev/registration": "reg"})));
    site.apply(&light("d", "cpu-1", &json!({"app": "web"})));
    site.wait(10);
    let exactly = |account: &str, seconds: u64| (account.to_owned(), [seconds, 0, 0]);
    let listed =
        [exactly("- ml/unlisted ml", 10), exactly("store - ml", 10), exactly("unlisted - ml", 10)];
    assert_eq!(site.operated(), listed);
    let operated = site.books.meter.books().operated;
    let requested = operated.values().map(|one| (one.millicore_ms.value, one.memory_mib_ms.value));
    assert_eq!(requested.collect::<Vec<_>>(), [(20_000_000, 30_720_000); 3]);
    assert_eq!(site.held(), [], "they hold no device");

    // The class of the namespace puts the last one on record from then on.
    site.apply(&namespace("ml", Some("store")));
    site.wait(10);
    assert_eq!(site.operated()[1..2], [exactly("store - ml", 30)]);
    // Labels that are taken away end nothing, and the pod's end does.
    site.apply(&namespace("ml", None));
    let unlabelled = light("a", "n1", &json!({}));
    site.apply(&unlabelled);
    site.wait(10);
    site.apply(&ended(&unlabelled, "Succeeded"));
    site.delete(&light("d", "cpu-1", &json!({"app": "web"})));
    site.wait(10);
    assert_eq!(site.operated()[1..2], [exactly("store - ml", 50)]);
    assert_eq!(site.closed().len(), 2);
    site.books.meter.check().unwrap();
}

#[test]
fn what_is_labelled_while_the_auditor_is_away_is_on_record_since_then_at_the_earliest() {
    let site = Site::new(&[class("store", "Guaranteed")]);
    let mut site = site.begin();
    site.apply(&light("p", "cpu-1", &json!({})));
    site.wait(3600);
    let labelled = light("p", "cpu-1", &json!({"daylight.dev/activity": "store"}));
    let mut site = site.restarted(&[class("store", "Guaranteed"), labelled], 100);
    site.wait(10);
    let operated = site.operated();
    let [(_, [value, below, above])] = &operated[..] else { panic!("{operated:?}") };
    // It was labelled within the 100 s, or a minute before, of which the books may lack the begin.
    assert_eq!((*value, *below, *above), (170, 160, 0));
}

#[test]
fn claims_and_resizes_count_from_the_last_booking() {
    let mut site = Site::new(&[class("store", "Guaranteed")]).begin();
    let mut pod = light("p", "cpu-1", &json!({"daylight.dev/activity": "store"}));
    pod["spec"]["volumes"] =
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    site.apply(&pod);
    site.wait(10);
    let claim = json!({
        "metadata": {"name": "data", "namespace": "ml", "uid": "c", "resourceVersion": "7"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    });
    let claim = Change::Applied(Box::new(serde_json::from_value(claim).unwrap()));
    site.books.apply_claim(claim, site.now.plus_millis(5000));
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("1");
    site.now = site.now.plus_millis(5000);
    site.apply(&pod);
    site.wait(10);
    let books = site.books.meter.books();
    let operated = books.operated.values().next().unwrap();
    // Both are booked since the last booking, and may have changed up to 5 s later.
    let seconds = |amount: daylight_meter::Bounded<u128>, unit: u128| {
        [amount.value, amount.below, amount.above].map(|one| one / unit / 1000)
    };
    assert_eq!(seconds(operated.storage_mib_ms, 1024), [15, 5, 0]);
    assert_eq!(seconds(operated.millicore_ms, 1000), [2 * 10 + 15, 0, 5]);
    assert_eq!(operated.pod_ms.value, 25 * SECOND);
    site.books.meter.check().unwrap();
}

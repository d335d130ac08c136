//! Declarations over the end of a month, against a journal on disk and objects as an API server has them.

use std::collections::BTreeMap;

use daylight_cluster::Round;
use daylight_ledger::SigningKey;
use daylight_meter::{Bounded, Config, Entry, Key, Meter, NodeEntry, TimeEntry, Use};
use serde_json::{Value, json};

use super::*;
use crate::auditor::bookkeeper::BookSettings;
use crate::auditor::journal::Directory;
use crate::auditor::ledger_key::LedgerKeys;
use crate::gpu_resources::GpuResources;
use crate::view::tests::test_cluster::{
    ChangeKind, START, all_listed, class, event, lease, node, patched, pool, registration, running,
};

const ORIGIN: &str = "example.com/ledger";
const PATH: &str = "/apis/daylight.dev/v1alpha1/namespaces/team/declarations";
const HOUR: u64 = 3_600_000;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

struct Site {
    books: Bookkeeper,
    writer: JournalWriter,
    declarations: Declarations,
    /// Declarations by name.
    objects: BTreeMap<String, Value>,
    /// Names and texts of the Events.
    events: Vec<(String, String)>,
    version: u64,
    now: Timestamp,
    _directory: tempfile::TempDir,
}

impl Site {
    /// A pod with one GPU mines under the registration `reg` since the start.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed(ORIGIN, [7; 32]).unwrap();
        let disk = Directory::take(directory.path()).unwrap();
        let keys = LedgerKeys { key, next: None };
        let every = Duration::from_mins(15);
        let (writer, _) = JournalWriter::open(disk, keys, every, |_| Ok(())).unwrap();
        let settings = BookSettings {
            resources: GpuResources::new(["nvidia.com/gpu"]),
            ..BookSettings::default()
        };
        let mut books = Bookkeeper::new(Meter::new(Config::default()), settings);
        let approved = json!({
            "metadata": {"creationTimestamp": "2026-11-02T00:00:00Z"},
            "status": {"approval": {
                "state": "Approved", "by": "eve", "at": "2026-11-20T00:00:00Z", "generation": 1,
                "digestVersion": 1, "specDigest": "sha256:0",
            }},
        });
        let of_reg = json!({"metadata": {"labels": {"daylight.dev/registration": "reg"}}});
        for object in [
            pool("a"),
            node("n1", "a"),
            class("pow", "IdleOnly"),
            patched(&registration("reg"), &approved),
            running(&patched(&lease("m", "n1", 0), &of_reg), "n1"),
        ] {
            let listed = patched(&object, &json!({"metadata": {"resourceVersion": "1"}}));
            books.apply(event(&listed, ChangeKind::Item), START);
        }
        for listed in all_listed(100, Round(0)) {
            books.apply(listed, START);
        }
        books.begin(START);
        let mut declarations = Declarations::new(directory.path().into(), Duration::ZERO);
        declarations.apply(Change::Listing);
        declarations.apply(Change::Listed { version: 100, round: Round(0) });
        Self {
            books,
            writer,
            declarations,
            objects: BTreeMap::new(),
            events: Vec::new(),
            version: 100,
            now: START,
            _directory: directory,
        }
    }

    async fn write(&mut self, entries: Vec<Entry>) {
        self.writer.push(entries);
        self.writer.start(Instant::now());
        self.writer.next().await.unwrap();
    }

    async fn wait_until(&mut self, now: Timestamp) {
        self.now = now;
        self.books.meter.advance(now);
        let entries = self.books.meter.take_entries();
        self.write(entries).await;
    }

    /// Compares the declarations with the ledger once. Returns what was requested.
    async fn round(&mut self) -> Vec<String> {
        self.declarations.due = None;
        self.declarations.start(&self.books, &mut self.writer, self.now, Instant::now());
        self.declarations.next().await;
        let writes = self.declarations.writes(&mut self.books, ORIGIN, self.now);
        let entries = self.books.meter.take_entries();
        if !entries.is_empty() {
            self.write(entries).await;
        }
        let mut done = Vec::new();
        for write in writes {
            let body: Value = serde_json::from_slice(&write.body).unwrap();
            let name = body["metadata"]["name"].as_str().unwrap().to_owned();
            match write.method.as_str() {
                "POST" if write.path.contains("/events.k8s.io/") => {
                    let named = (name, body["note"].as_str().unwrap().to_owned());
                    self.events.push(named);
                    continue;
                }
                "POST" => {
                    assert_eq!(write.path.split('?').next().unwrap(), PATH);
                    self.version += 1;
                    let metadata = json!({"metadata": {
                        "namespace": "team", "uid": format!("uid-{}", self.version),
                    }});
                    self.put(&patched(&body, &metadata));
                }
                _ => self.set(&name, body["status"].clone()),
            }
            done.push(format!("{} {name}", write.method));
        }
        done
    }

    /// Compares until nothing changes any more.
    async fn settle(&mut self) {
        for _ in 0..10 {
            if self.round().await.is_empty() {
                return;
            }
        }
        panic!("the declarations do not settle: {:#?}", self.objects);
    }

    fn put(&mut self, object: &Value) {
        self.version += 1;
        let version = json!({"metadata": {"resourceVersion": self.version.to_string()}});
        let object = patched(object, &version);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let read = serde_json::from_value(object.clone()).unwrap();
        self.declarations.apply(Change::Applied(Box::new(read)));
        self.objects.insert(name, object);
    }

    fn set(&mut self, name: &str, status: Value) {
        let mut object = self.objects[name].clone();
        object["status"] = status;
        self.put(&object);
    }

    fn delete(&mut self, name: &str) {
        let object = self.objects.remove(name).unwrap();
        let read = serde_json::from_value(object).unwrap();
        self.declarations.apply(Change::Deleted(Box::new(read)));
    }

    fn file(&mut self, name: &str) {
        let mut status = self.objects[name]["status"].clone();
        status["filing"] = json!({
            "by": "olga", "at": "2026-12-02T10:00:00Z", "reference": "N-4711",
            "rootHash": status["ledger"]["rootHash"],
        });
        self.set(name, status);
    }

    fn declaration(&self, name: &str) -> Declaration {
        serde_json::from_value(self.objects[name].clone()).unwrap()
    }

    fn status(&self, name: &str) -> DeclarationStatus {
        self.declaration(name).status.unwrap()
    }

    fn state(&self, name: &str) -> DeclarationState {
        self.status(name).state.unwrap()
    }

    fn is_overdue(&self, name: &str) -> bool {
        let conditions = self.status(name).conditions;
        let overdue = conditions.iter().find(|it| it.type_ == CONDITION_OVERDUE).unwrap();
        overdue.status == "True"
    }
}

fn gpu_ms(status: &DeclarationStatus) -> u64 {
    status.totals.as_ref().unwrap().gpu_milliseconds.value.try_into().unwrap()
}

const NOVEMBER: &str = "reg-2026-11";
const DECEMBER: &str = "reg-2026-12";
/// When November ends in Oslo.
const END: &str = "2026-11-30T23:00:00Z";

#[tokio::test]
async fn a_declaration_is_drafted_becomes_ready_and_is_filed_and_corrected() {
    let mut site = Site::new();
    site.wait_until(START.plus_millis(HOUR)).await;
    assert_eq!(site.round().await, [format!("POST {NOVEMBER}")], "none of October: it is younger");
    site.settle().await;
    let spec = site.declaration(NOVEMBER).spec;
    let expected = DeclarationSpec {
        registration: "reg".into(),
        period: "2026-11".into(),
        start: time(at("2026-10-31T23:00:00Z")).unwrap(),
        end: time(at(END)).unwrap(),
        time_zone: "Europe/Oslo".into(),
        tzdata: tzdata_version().into(),
        correction: 0,
        due_at: time(at("2026-12-20T23:00:00Z")).unwrap(),
        submitted_by: Some("ann".into()),
    };
    assert_eq!(spec, expected);
    assert_eq!(site.state(NOVEMBER), DeclarationState::Draft);
    let draft = site.status(NOVEMBER);
    // Up to the last full quarter of an hour, at which the ledger has an entry.
    let quarters = gpu_ms(&draft);
    assert!((HOUR - 900_000..=HOUR).contains(&quarters), "{quarters}");

    // Ready, once every node has reported up to the end, and exact to the millisecond.
    site.wait_until(at(END).plus_millis(HOUR / 2)).await;
    site.settle().await;
    let ready = site.status(NOVEMBER);
    assert_eq!(site.state(NOVEMBER), DeclarationState::Ready);
    assert_eq!(gpu_ms(&ready), at(END).millis_since(START));
    assert_eq!(site.state(DECEMBER), DeclarationState::Draft);
    site.wait_until(at(END).plus_millis(2 * HOUR)).await;
    site.settle().await;
    assert_eq!(site.status(NOVEMBER), ready, "what is ready does not change with the ledger");

    site.file(NOVEMBER);
    site.settle().await;
    let filed = site.status(NOVEMBER);
    assert_eq!(filed.state, Some(DeclarationState::Filed));
    assert_eq!((&filed.totals, &filed.ledger), (&ready.totals, &ready.ledger));
    let recorded =
        site.books.meter.object_seen(ObjectKind::Declaration, &"team/reg-2026-11".into());
    let decision = recorded.unwrap().decision.as_ref().unwrap();
    assert_eq!((&*decision.by, decision.reference.as_deref()), ("olga", Some("N-4711")));

    // Deleted, it is there again with the same figures and its filing.
    site.delete(NOVEMBER);
    site.settle().await;
    let again = site.status(NOVEMBER);
    assert_eq!(site.declaration(NOVEMBER).spec, spec);
    let without_times =
        |status: DeclarationStatus| DeclarationStatus { conditions: Vec::new(), ..status };
    assert_eq!(without_times(again), without_times(filed.clone()));

    // What arrives late is a correction, and what was filed stays.
    let late = NodeEntry {
        node: "n1".into(),
        from: at(END).minus_millis(HOUR),
        until: at(END).minus_millis(HOUR - 1000),
        time: vec![TimeEntry {
            key: Key { pool: Some("a".into()), usage: used_by_reg() },
            ms: Bounded::exactly(1000),
        }],
        gaps: vec![daylight_meter::Gap {
            kind: daylight_meter::GapKind::Late,
            device: None,
            between: daylight_meter::Moment::exactly(at(END).minus_millis(HOUR)),
            millijoules: 0,
        }],
        ..NodeEntry::default()
    };
    site.write(vec![Entry::Node(Box::new(late))]).await;
    site.settle().await;
    let superseded = site.status(NOVEMBER);
    assert_eq!(superseded.state, Some(DeclarationState::Superseded));
    assert_eq!(superseded.corrected_by.as_deref(), Some("reg-2026-11-c1"));
    assert_eq!(
        (&superseded.totals, &superseded.ledger, &superseded.filing),
        (&filed.totals, &filed.ledger, &filed.filing)
    );
    let correction = site.declaration("reg-2026-11-c1");
    assert_eq!(correction.spec.correction, 1);
    let correction = correction.status.unwrap();
    assert_eq!(correction.state, Some(DeclarationState::Ready));
    assert_eq!(gpu_ms(&correction), gpu_ms(&filed) + 1000);

    // The due day of the correction is over, too, once it is.
    assert!(!site.is_overdue("reg-2026-11-c1"));
    site.wait_until(at("2026-12-20T23:00:00Z")).await;
    site.settle().await;
    assert!(site.is_overdue("reg-2026-11-c1"));
    // Once, however often it is looked at.
    site.wait_until(at("2026-12-21T23:00:00Z")).await;
    site.settle().await;
    let overdue = |(name, _): &&(String, String)| name.starts_with("reg-2026-11-c1.overdue-uid-");
    let events: Vec<&(String, String)> = site.events.iter().filter(overdue).collect();
    let [(_, note)] = events[..] else { panic!("{:?}", site.events) };
    assert!(note.starts_with("Registration reg is due for 2026-11 since 2026-12-20"), "{note}");
    assert!(!site.is_overdue(NOVEMBER));
    assert!(!site.is_overdue(DECEMBER));
}

fn used_by_reg() -> Use {
    Use::Lease(daylight_meter::Account {
        class: Some("pow".into()),
        registration: Some("team/reg".into()),
        namespace: "team".into(),
    })
}

#[tokio::test]
async fn a_period_in_another_time_zone_begins_where_the_one_before_ended() {
    let mut site = Site::new();
    site.wait_until(START.plus_millis(HOUR)).await;
    site.settle().await;
    let pool = patched(
        &pool("a"),
        &json!({
            "metadata": {"generation": 2, "resourceVersion": "200"},
            "spec": {"site": {"timeZone": "Asia/Tokyo"}},
        }),
    );
    site.books.apply(event(&pool, ChangeKind::Applied), site.now);
    site.wait_until(at(END).plus_millis(HOUR)).await;
    site.settle().await;
    let (november, december) = (site.declaration(NOVEMBER).spec, site.declaration(DECEMBER).spec);
    assert_eq!(november.end, time(at(END)).unwrap(), "what was begun stays");
    assert_eq!(december.start, november.end);
    assert_eq!(december.end, time(at("2026-12-31T15:00:00Z")).unwrap());
}

#[tokio::test]
async fn a_new_process_finds_the_same_figures() {
    let mut site = Site::new();
    site.wait_until(at(END).plus_millis(HOUR)).await;
    site.settle().await;
    let before = site.status(NOVEMBER);
    let directory = site.declarations.directory.clone();
    site.declarations = Declarations::new(directory, Duration::ZERO);
    site.declarations.apply(Change::Listing);
    for object in site.objects.values() {
        let read = serde_json::from_value(object.clone()).unwrap();
        site.declarations.apply(Change::Item(Box::new(read)));
    }
    site.declarations.apply(Change::Listed { version: 1000, round: Round(0) });
    assert_eq!(site.round().await, Vec::<String>::new());
    assert_eq!(site.status(NOVEMBER), before);
}

#[test]
fn a_declaration_is_due_at_the_end_of_its_day() {
    for (end, day, zone, due) in [
        (END, 20, "Europe/Oslo", "2026-12-20T23:00:00Z"),
        ("2026-09-30T22:00:00Z", 28, "Europe/Oslo", "2026-10-28T23:00:00Z"),
        ("2026-02-28T18:15:00Z", 1, "Asia/Kathmandu", "2026-03-01T18:15:00Z"),
    ] {
        assert_eq!(figures::due(at(end), day, zone), Some(at(due)), "{end} {day} {zone}");
    }
    assert_eq!(figures::due(at(END), 20, "Mars/Base"), None);
}

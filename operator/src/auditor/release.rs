//! Release of pods and `LeaseRecord`s once the journal has the end of their lease.

use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_cluster::Change;
use daylight_cluster::slim::Custom;
use daylight_cluster::store::Store;
use daylight_crds::LeaseRecord;
use rustc_hash::{FxHashMap, FxHashSet};

use super::bookkeeper::Bookkeeper;
use super::cluster_writes::MANAGER;
use crate::api_requests::{self, ApiRequest};

/// Time until a release is requested again that the watches do not show.
const RETRY: Duration = Duration::from_secs(2);
/// Milliseconds for which the end of a lease is remembered after nothing refers to it any more. Its
/// `LeaseRecord` may arrive after its pod is gone, since the two watches are independent.
const REMEMBERED_MS: u64 = 60_000;

/// Pods and records that may be released.
///
/// The finalizer on a pod is the promise that the end of its lease is not lost. So nothing is
/// released before the entry with that end is durable ([`Releases::set_durable`]): a crash between
/// the two would leave neither a pod nor a record to book it from.
pub(super) struct Releases {
    /// Ends that the controller recorded while no auditor did.
    records: Store<Custom<LeaseRecord>>,
    /// UIDs of leases whose end is durable, and when a pod or a record last referred to each.
    durable: FxHashMap<Name, Timestamp>,
    /// UIDs of pods and records whose release was requested, and when.
    requested: FxHashMap<Name, Instant>,
}

impl Releases {
    /// `durable` are the leases whose end the journal has.
    pub(super) fn new(durable: impl IntoIterator<Item = Name>, now: Timestamp) -> Self {
        Self {
            records: Store::default(),
            durable: durable.into_iter().map(|uid| (uid, now)).collect(),
            requested: FxHashMap::default(),
        }
    }

    /// Takes in a change of a `LeaseRecord`.
    pub(super) fn apply(&mut self, change: Change<Custom<LeaseRecord>>) {
        self.records.apply(change);
    }

    /// Returns `true` once the records are listed, or if they cannot be: nothing waits for them
    /// then.
    pub(super) fn is_ready(&self) -> bool {
        self.records.listed().is_some() || self.records.failure().is_some()
    }

    /// Takes leases whose end has become durable.
    pub(super) fn set_durable(&mut self, uids: Vec<Name>, now: Timestamp) {
        self.durable.extend(uids.into_iter().map(|uid| (uid, now)));
    }

    /// Returns the records of ends that are not durable yet.
    pub(super) fn unbooked(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.readable().filter(|record| !self.durable.contains_key(&*record.spec.pod_uid))
    }

    fn readable(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.records.values().filter_map(|record| record.get().map(|record| &**record))
    }

    /// Returns at most `room` requests, which release pods and delete records whose end is durable.
    pub(super) fn due(&mut self, books: &Bookkeeper, room: usize, now: Instant) -> Vec<ApiRequest> {
        self.requested.retain(|_, at| now.saturating_duration_since(*at) < RETRY);
        let mut due = Vec::new();
        for (key, uid) in books.releasable(|uid| self.durable.contains_key(uid)) {
            if due.len() >= room {
                return due;
            }
            if request(&mut self.requested, &uid, now) {
                due.push(api_requests::release_pod(&key, &uid, MANAGER));
            }
        }
        for (key, record) in self.records.iter() {
            let Some(object) = record.get() else { continue };
            if due.len() >= room {
                return due;
            }
            if self.durable.contains_key(&*object.spec.pod_uid)
                && request(&mut self.requested, &record.uid, now)
            {
                due.push(api_requests::delete_lease_record(key, &record.uid));
            }
        }
        due
    }

    /// Forgets ends that neither a pod nor a record has referred to for long, here and in the
    /// meter.
    pub(super) fn forget(&mut self, books: &mut Bookkeeper, now: Timestamp) {
        if !books.is_warm() || self.durable.is_empty() {
            return;
        }
        let mut referred: FxHashSet<Name> = books.unreleased().collect();
        referred.extend(self.readable().map(|record| Name::from(&*record.spec.pod_uid)));
        self.durable.retain(|uid, referred_at| {
            if referred.contains(uid) {
                *referred_at = now;
            }
            let remembered = now.millis_since(*referred_at) < REMEMBERED_MS;
            if !remembered {
                books.meter.forget(uid);
            }
            remembered
        });
    }
}

/// Notes a request, unless one was noted within the last [`RETRY`]: that one keeps its time.
fn request(requested: &mut FxHashMap<Name, Instant>, what: &str, now: Instant) -> bool {
    let is_new = !requested.contains_key(what);
    if is_new {
        requested.insert(what.into(), now);
    }
    is_new
}

#[cfg(test)]
mod tests {
    use daylight_cluster::Event;
    use daylight_meter::{Config, Meter};
    use serde_json::json;

    use super::*;
    use crate::auditor::bookkeeper::BookSettings;
    use crate::gpu_resources::GpuResources;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn books_with_ended_pod() -> Bookkeeper {
        let settings = BookSettings {
            resources: GpuResources::new(["nvidia.com/gpu"]),
            ..BookSettings::default()
        };
        let mut books = Bookkeeper::new(Meter::new(Config::default()), settings);
        let pod = json!({
            "metadata": {
                "name": "p", "namespace": "a", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "1970-01-01T00:00:00Z",
                "finalizers": ["daylight.dev/metered"],
            },
            "spec": {
                "nodeName": "n",
                "containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}],
            },
            "status": {"phase": "Succeeded"},
        });
        let pod = Box::new(serde_json::from_value(pod).unwrap());
        books.apply(Event::Pod(Change::Applied(pod)), NOW);
        books
    }

    fn record(uid: &str) -> Change<Custom<LeaseRecord>> {
        let record = json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "LeaseRecord",
            "metadata": {"name": "r", "namespace": "a", "uid": uid, "resourceVersion": "8"},
            "spec": {
                "pod": "p", "podUid": "u", "node": "n", "resource": "nvidia.com/gpu", "gpus": 1,
                "seenEndedAt": "1970-01-01T00:10:00Z",
            },
        });
        Change::Applied(Box::new(serde_json::from_value(record).unwrap()))
    }

    fn paths(due: &[ApiRequest]) -> Vec<&str> {
        due.iter().map(|write| write.path.split('?').next().unwrap()).collect()
    }

    #[test]
    fn nothing_is_released_before_its_end_is_durable() {
        let books = books_with_ended_pod();
        let mut releases = Releases::new([], NOW);
        releases.apply(record("v"));
        let now = Instant::now();
        assert_eq!(paths(&releases.due(&books, 8, now)), Vec::<&str>::new());
        assert_eq!(releases.unbooked().count(), 1);

        releases.set_durable(vec!["u".into()], NOW);
        assert_eq!(releases.unbooked().count(), 0);
        let pod = "/api/v1/namespaces/a/pods/p";
        let record = "/apis/daylight.dev/v1alpha1/namespaces/a/leaserecords/r";
        assert_eq!(paths(&releases.due(&books, 1, now)), [pod]);
        assert_eq!(paths(&releases.due(&books, 8, now)), [record]);
        assert_eq!(paths(&releases.due(&books, 8, now)), Vec::<&str>::new());
        // The watches did not show it: it is requested again, however often one looks meanwhile.
        assert_eq!(paths(&releases.due(&books, 8, now + RETRY / 2)), Vec::<&str>::new());
        assert_eq!(paths(&releases.due(&books, 8, now + RETRY)), [pod, record]);
        // The controller recorded the end once more before it saw the deletion.
        releases.apply(self::record("w"));
        assert_eq!(paths(&releases.due(&books, 8, now + RETRY)), [record]);
    }

    #[test]
    fn an_end_is_remembered_while_something_refers_to_it_and_a_while_longer() {
        let mut books = books_with_ended_pod();
        let mut releases = Releases::new(["u".into(), "gone".into()], NOW);
        releases.forget(&mut books, NOW.plus_millis(REMEMBERED_MS));
        assert_eq!(releases.durable.len(), 2, "nothing is forgotten before all is listed");
        books.begin(NOW);
        let later = NOW.plus_millis(REMEMBERED_MS - 1);
        releases.forget(&mut books, later);
        assert_eq!(releases.durable.len(), 2);
        releases.forget(&mut books, later.plus_millis(1));
        assert_eq!(releases.durable.keys().map(|uid| &**uid).collect::<Vec<_>>(), ["u"]);
    }
}

//! Energy usage of registrations, in their status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_cluster::Cluster;
use daylight_crds::{EnergyPeriod, Millijoules, PeriodUsage, Registration};
use daylight_meter::{Counts, Period, Usage};
use serde_json::json;
use strum::VariantArray as _;

use super::bookkeeper::Bookkeeper;
use super::cluster_writes::MANAGER;
use crate::api_requests::{self, ApiRequest};
use crate::conditions::time;
use crate::view::energy::{
    energy_limit_period, energy_period, energy_periods, owner_periods, period_in_status, period_of,
};

/// Registration whose usage is counted, and the period of it that its status has.
struct Counted {
    key: Name,
    registration: Arc<Registration>,
    owner: Option<Name>,
    start: Timestamp,
    end: Timestamp,
    /// Other periods of the owner's limits.
    other_periods: Vec<(EnergyPeriod, Timestamp, Timestamp)>,
}

/// Time before its start at which the meter is given a period: what is booked before cannot be
/// divided at its start. It is longer than any wait between two calls of [`statuses`].
const AHEAD: Duration = Duration::from_mins(10);

/// Returns the requests that set the usage of registrations.
pub(super) fn statuses(books: &mut Bookkeeper, now: Timestamp) -> Vec<ApiRequest> {
    begin_periods(books, now);
    let counted = counted(books);
    let counts = books.meter.counts();
    let usages = books.meter.usages(&counts, counted.iter().map(|one| (&one.key, one.start)));
    let mut others: BTreeMap<&Name, Vec<PeriodUsage>> = BTreeMap::new();
    for period in EnergyPeriod::VARIANTS {
        let of_period = |one: &Counted| {
            one.other_periods
                .iter()
                .find(|(of, ..)| of == period)
                .map(|(_, start, end)| (*start, *end))
        };
        let due: Vec<_> = counted.iter().filter_map(|one| Some((one, of_period(one)?))).collect();
        if due.is_empty() {
            continue;
        }
        let starts = due.iter().map(|(one, (start, _))| (&one.key, *start));
        let usages = books.meter.usages(&counts, starts);
        for (one, (start, end)) in due {
            let Some(usage) = usages.get(&one.key) else { continue };
            let other = other_period(books, one, &counts, usage, (*period, start, end));
            others.entry(&one.key).or_default().extend(other);
        }
    }
    let mut writes = Vec::new();
    for one in &counted {
        let others = others.remove(&one.key).unwrap_or_default();
        let usage = usages.get(&one.key);
        writes.extend(usage.and_then(|usage| status(books, one, &counts, usage, others)));
    }
    writes
}

/// Returns what a status has of another period than that of the registration's own limit.
fn other_period(
    books: &Bookkeeper,
    counted: &Counted,
    counts: &Counts,
    usage: &Usage,
    (period, start, end): (EnergyPeriod, Timestamp, Timestamp),
) -> Option<PeriodUsage> {
    Some(PeriodUsage {
        period,
        period_start: time(start)?,
        period_end: time(end)?,
        millijoules: Millijoules(usage.millijoules),
        deleted_millijoules: deleted(books, counted, counts, start),
    })
}

/// Returns what registrations that are gone used of their owner's limits since the start of a period.
fn deleted(
    books: &Bookkeeper,
    counted: &Counted,
    counts: &Counts,
    start: Timestamp,
) -> Option<Millijoules> {
    let owner = counted.owner.as_ref()?;
    let gone = |of: &Name| !is_of_owner(&books.cluster, of, owner);
    Some(counts.of_owner(owner, start, gone)).filter(|deleted| *deleted > 0).map(Millijoules)
}

/// Begins all periods of all registrations that were ever decided about, whatever their limits: an
/// edit of a limit then finds its period counted. To be called before anything is booked.
pub(super) fn begin_periods(books: &mut Bookkeeper, now: Timestamp) {
    let booked = books.meter.booked_until();
    let times = [if booked == Timestamp(0) { now } else { booked }, now, now + AHEAD];
    let mut periods = Vec::new();
    for (key, registration) in books.cluster.registrations() {
        if registration.status.as_ref().is_none_or(|status| status.approval.is_none()) {
            continue;
        }
        let owner = owner(books, key, registration);
        for at in times {
            let all = energy_periods(&books.cluster, registration, at);
            periods.extend(all.into_iter().map(|(start, end)| Period {
                registration: key.clone(),
                owner: owner.clone(),
                start,
                end,
            }));
        }
    }
    books.meter.begin_periods(periods);
}

/// Owner that a registration draws for: that of its spec as approved.
fn owner(books: &Bookkeeper, key: &Name, registration: &Registration) -> Option<Name> {
    let owner = registration.spec.operator.owner_pseudonym.as_deref().map(Name::from);
    let counts = books.meter.written_counts();
    if books.is_approved(key) || !counts.has(key) {
        return owner;
    }
    counts.owner(key, books.meter.booked_until()).cloned()
}

/// Returns the registrations whose usage matters, each with its period.
fn counted(books: &Bookkeeper) -> Vec<Counted> {
    let booked = books.meter.booked_until();
    let registrations = books
        .cluster
        .registrations()
        // A registration that lacks the authority's signature gets no usage, and without usage
        // nothing mines under an energy limit, whatever the controller makes of the approval.
        .filter(|(key, _)| books.is_signed(key));
    let counted = registrations.filter_map(|(key, registration)| {
        // What is not approved does not end a count: the period is the one approved before.
        let known = period_in_status(registration).filter(|(_, end)| booked < *end);
        let known = known.filter(|_| !books.is_approved(key));
        let period = known.or_else(|| energy_period(&books.cluster, registration, booked));
        let (start, end) = period?;
        // Without an exporter there is no meter. Without a reading, an energy limit holds mining. What
        // runs without a pool declares its energy.
        let is_metered = books.has_exporter() || registration.spec.pools.is_empty();
        if !is_metered && energy_limit_period(&books.cluster, &registration.spec).is_some() {
            return None;
        }
        let owner = owner(books, key, registration);
        // Also those of registrations that are not approved: an approval then finds its period read,
        // and stops none of the owner's miners for want of a reading.
        let periods = owner_periods(&books.cluster, &registration.spec, |_| true).into_iter();
        let periods = periods.filter_map(|of| {
            let (start, end) = period_of(&books.cluster, registration, of, booked)?;
            Some((of, start, end))
        });
        let other_periods =
            periods.filter(|(_, from, until)| (*from, *until) != (start, end)).collect();
        let (key, registration) = (key.clone(), registration.clone());
        Some(Counted { key, registration, owner, start, end, other_periods })
    });
    counted.collect()
}

/// Returns `None` for a registration that is not metered yet, or whose status has all that matters.
fn status(
    books: &Bookkeeper,
    counted: &Counted,
    counts: &Counts,
    usage: &Usage,
    other_periods: Vec<PeriodUsage>,
) -> Option<ApiRequest> {
    let Counted { key, registration, owner: _, start, end, other_periods: _ } = counted;
    let cluster = &books.cluster;
    let used = daylight_crds::Usage {
        metered_until: time(usage.metered_until?)?,
        period_start: time(*start)?,
        period_end: time(*end),
        millijoules: Millijoules(usage.millijoules),
        deleted_millijoules: deleted(books, counted, counts, *start),
        other_periods,
        peak_watts: (usage.peak_watts > 0).then_some(usage.peak_watts),
    };
    let uid = registration.metadata.uid.as_deref()?;
    // Where only power is limited, no more than the peak matters, which seldom changes.
    let known = registration.status.as_ref().and_then(|status| status.usage.as_ref());
    if energy_limit_period(cluster, &registration.spec).is_none()
        && books.is_approved(key)
        && known.is_some_and(|known| {
            known.peak_watts == used.peak_watts && known.period_start == used.period_start
        })
    {
        return None;
    }
    let status = json!({ "usage": used });
    Some(api_requests::apply_status::<Registration>(key, uid, MANAGER, &status))
}

/// Returns whether the use of a registration is in its own status, and an owner's.
fn is_of_owner(cluster: &Cluster, registration: &Name, owner: &Name) -> bool {
    let known = cluster.registrations.get(registration).filter(|known| !known.deleting);
    let known = known.and_then(|known| known.get());
    known.is_some_and(|known| known.spec.operator.owner_pseudonym.as_deref() == Some(&**owner))
}

#[cfg(test)]
mod tests {
    use daylight_cluster::Round;
    use daylight_meter::{Config, Meter, ObjectKind};
    use serde_json::Value;

    use super::*;
    use crate::auditor::bookkeeper::BookSettings;
    use crate::gpu_resources::GpuResources;
    use crate::view::tests::test_cluster::{
        ChangeKind, START, all_listed, class, event, lease, node, patched, pool, registration,
        running,
    };

    const OWNER: &str = "a1b2c3d4e5f60718";
    /// Energy of a device of unknown limit in a second, in millijoules.
    const SECOND: u64 = 1_500_000;

    struct Site {
        books: Bookkeeper,
        objects: BTreeMap<String, Value>,
        version: u64,
        now: Timestamp,
    }

    impl Site {
        fn after(meter: Meter, now: Timestamp, exporter: bool, objects: &[Value]) -> Self {
            let settings = BookSettings {
                resources: GpuResources::new(["nvidia.com/gpu"]),
                exporters: exporter.then(|| "gpu/dcgm:9400".parse().unwrap()).into_iter().collect(),
                ..BookSettings::default()
            };
            let books = Bookkeeper::new(meter, settings);
            let mut site = Self { books, objects: BTreeMap::new(), version: 100, now };
            for object in
                [pool("a"), node("n1", "a"), class("pow", "IdleOnly")].iter().chain(objects)
            {
                site.put(object, ChangeKind::Item);
            }
            for listed in all_listed(100, Round(0)) {
                site.books.apply(listed, now);
            }
            site.books.begin(now);
            begin_periods(&mut site.books, now);
            site
        }

        fn new(objects: &[Value]) -> Self {
            Self::after(Meter::new(Config::default()), START, true, objects)
        }

        fn put(&mut self, object: &Value, kind: ChangeKind) {
            self.version += 1;
            let version = if matches!(kind, ChangeKind::Item) { 1 } else { self.version };
            let version = json!({"metadata": {"resourceVersion": version.to_string()}});
            let object = patched(object, &version);
            self.books.apply(event(&object, kind), self.now);
            let name = object["metadata"]["name"].as_str().unwrap();
            self.objects.insert(name.into(), object);
        }

        /// Changes an object, and counts its generations.
        fn edit(&mut self, name: &str, with: &Value) {
            let object = self.objects[name].clone();
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
            let generation = json!({"metadata": {"generation": generation}});
            self.put(&patched(&patched(&object, with), &generation), ChangeKind::Applied);
        }

        /// Approves a registration as it is.
        fn approve(&mut self, name: &str) {
            self.books.observe_register(self.now);
            let key = format!("team/{name}").into();
            let seen = self.books.meter.object_seen(ObjectKind::Registration, &key).unwrap();
            let approval = json!({"status": {"approval": {
                "state": "Approved", "by": "eve", "at": "2026-11-20T00:00:00Z", "digestVersion": 1,
                "specDigest": seen.digest, "generation": seen.generation,
            }}});
            let object = patched(&self.objects[name], &approval);
            self.put(&object, ChangeKind::Applied);
            self.books.observe_register(self.now);
        }

        fn wait(&mut self, seconds: u64) {
            self.now = self.now.plus_millis(1000 * seconds);
            self.books.meter.advance(self.now);
        }

        /// Writes what is due into the statuses.
        fn report(&mut self) {
            self.books.observe_register(self.now);
            for write in statuses(&mut self.books, self.now) {
                let body: Value = serde_json::from_slice(&write.body).unwrap();
                let name = body["metadata"]["name"].as_str().unwrap();
                let mut object = self.objects[name].clone();
                object["status"]["usage"] = body["status"]["usage"].clone();
                self.put(&object, ChangeKind::Applied);
            }
        }

        /// Returns the start of the period in a registration's status, and the use in it.
        fn used(&mut self, name: &str) -> (String, u64) {
            self.report();
            let usage = &self.objects[name]["status"]["usage"];
            let text = |field: &str| usage[field].as_str().unwrap().to_owned();
            (text("periodStart"), text("millijoules").parse().unwrap())
        }

        fn deleted(&mut self, name: &str) -> u64 {
            self.report();
            let deleted = &self.objects[name]["status"]["usage"]["deletedMillijoules"];
            deleted.as_str().map_or(0, |text| text.parse().unwrap())
        }
    }

    fn limited(name: &str, period: &str) -> Value {
        let energy = json!({"kwh": 100, "period": period});
        let spec = json!({
            "operator": {"ownerPseudonym": OWNER},
            "limits": {"energy": energy}, "ownerLimits": {"energy": energy},
        });
        patched(&registration(name), &json!({ "spec": spec }))
    }

    /// A pod that mines under a registration since the start.
    fn mining(registration: &str, slot: u32) -> Value {
        let labels = json!({"metadata": {"labels": {"daylight.dev/registration": registration}}});
        running(&patched(&lease("m", "n1", slot), &labels), "n1")
    }

    fn period(period: &str) -> Value {
        json!({"spec": {"limits": {"energy": {"period": period}}}})
    }

    const YEAR: &str = "2025-12-31T23:00:00Z";
    const MONTH: &str = "2026-10-31T23:00:00Z";

    #[test]
    fn an_edit_of_the_period_there_and_back_takes_nothing_away() {
        let mut site = Site::new(&[limited("reg", "Year")]);
        site.approve("reg");
        site.report();
        site.put(&mining("reg", 0), ChangeKind::Applied);
        site.wait(100);
        assert_eq!(site.used("reg"), (YEAR.into(), 100 * SECOND));
        // An edit that was not approved changes nothing.
        site.edit("reg", &period("Month"));
        site.wait(10);
        assert_eq!(site.used("reg"), (YEAR.into(), 110 * SECOND));
        // One that is approved finds its own period counted.
        site.approve("reg");
        assert_eq!(site.used("reg"), (MONTH.into(), 110 * SECOND));
        site.edit("reg", &period("Year"));
        site.wait(10);
        assert_eq!(site.used("reg"), (MONTH.into(), 120 * SECOND));
        site.approve("reg");
        assert_eq!(site.used("reg"), (YEAR.into(), 120 * SECOND));
    }

    #[test]
    fn another_time_zone_there_and_back_takes_nothing_away() {
        let mut site = Site::new(&[limited("reg", "Month")]);
        site.approve("reg");
        site.report();
        site.put(&mining("reg", 0), ChangeKind::Applied);
        site.wait(100);
        assert_eq!(site.used("reg"), (MONTH.into(), 100 * SECOND));
        site.edit("a", &json!({"spec": {"site": {"timeZone": "Etc/UTC"}}}));
        site.approve("reg");
        site.wait(10);
        assert_eq!(site.used("reg"), ("2026-11-01T00:00:00Z".into(), 110 * SECOND));
        site.edit("a", &json!({"spec": {"site": {"timeZone": "Europe/Oslo"}}}));
        site.approve("reg");
        site.wait(10);
        assert_eq!(site.used("reg"), (MONTH.into(), 120 * SECOND));
    }

    #[test]
    fn what_a_deleted_registration_used_stays_with_its_owner() {
        let mut site = Site::new(&[limited("reg", "Year"), limited("other", "Month")]);
        site.approve("reg");
        site.approve("other");
        site.report();
        site.put(&mining("other", 0), ChangeKind::Applied);
        site.wait(100);
        assert_eq!((site.used("other").1, site.deleted("reg")), (100 * SECOND, 0));
        let other = site.objects["other"].clone();
        site.put(&other, ChangeKind::Deleted);
        assert_eq!(site.deleted("reg"), 100 * SECOND);
        // It still mines until its miner has drained.
        site.wait(10);
        assert_eq!(site.deleted("reg"), 110 * SECOND);

        // All processes end, and only what is durable is left.
        let entries = site.books.meter.snapshot();
        let meter = Meter::restore(Config::default(), entries).unwrap();
        let reg = site.objects["reg"].clone();
        let mut site = Site::after(meter, site.now, true, &[reg]);
        assert_eq!(site.deleted("reg"), 110 * SECOND);
        // The same name again has its own use again.
        site.put(&limited("other", "Month"), ChangeKind::Applied);
        site.approve("other");
        assert_eq!((site.used("other").1, site.deleted("reg")), (110 * SECOND, 0));
        // Another owner takes over the name, but not what was drawn.
        site.edit("other", &json!({"spec": {"operator": {"ownerPseudonym": "ffffffffffffffff"}}}));
        assert_eq!(site.deleted("reg"), 110 * SECOND);
    }

    /// Each registration is read in the periods of all limits of its owner, whether or not the
    /// registrations that set them are approved.
    #[test]
    fn use_is_read_in_the_periods_of_all_limits_of_the_owner() {
        let mut site = Site::new(&[limited("reg", "Year"), limited("other", "Month")]);
        site.approve("reg");
        site.wait(1);
        let period = |site: &mut Site, of: &str| {
            site.report();
            let all = &site.objects["reg"]["status"]["usage"]["otherPeriods"];
            let mut all = all.as_array().into_iter().flatten();
            all.find(|it| it["period"] == of).cloned().unwrap_or_default()
        };
        assert_eq!(period(&mut site, "Month")["periodStart"], MONTH);
        site.approve("other");
        site.put(&mining("reg", 0), ChangeKind::Applied);
        site.put(&mining("other", 1), ChangeKind::Applied);
        site.wait(100);
        let used = (101 * SECOND).to_string();
        assert_eq!(period(&mut site, "Month")["millijoules"], *used);
        let other = site.objects["other"].clone();
        site.put(&patched(&other, &json!({"spec": {"ownerLimits": null}})), ChangeKind::Applied);
        assert_eq!(period(&mut site, "Month"), Value::Null);
        let month = &other["status"]["usage"]["otherPeriods"][0];
        assert_eq!((&month["period"], &month["periodStart"]), (&json!("Year"), &json!(YEAR)));
        assert_eq!(month["millijoules"], *used);
        // What is deleted is counted in each of them.
        site.put(&other, ChangeKind::Applied);
        site.put(&limited("third", "Day"), ChangeKind::Applied);
        site.put(&other, ChangeKind::Deleted);
        let day = period(&mut site, "Day");
        assert_eq!((&day["millijoules"], &day["deletedMillijoules"]), (&json!(used), &json!(used)));
    }

    #[test]
    fn without_an_exporter_an_energy_limit_has_no_reading() {
        let objects = [limited("reg", "Year"), registration("plain")];
        let mut site = Site::after(Meter::new(Config::default()), START, false, &objects);
        site.approve("reg");
        site.put(&mining("reg", 0), ChangeKind::Applied);
        site.wait(100);
        assert!(statuses(&mut site.books, site.now).is_empty());
    }
}

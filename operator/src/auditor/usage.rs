//! Energy usage of registrations, in their status.

use std::sync::Arc;
use std::time::Duration;

use daylight_base::{Name, Timestamp};
use daylight_cluster::{Cluster, timestamp};
use daylight_crds::{Millijoules, Registration};
use daylight_meter::{Counts, Period, Usage};
use serde_json::json;

use super::bookkeeper::Bookkeeper;
use super::cluster_writes::MANAGER;
use crate::api_requests::{self, ApiRequest};
use crate::conditions::time;
use crate::view::energy::{energy_limit, energy_period, energy_periods};

/// Registration whose usage is counted, and the period of it that its status has.
struct Counted {
    key: Name,
    registration: Arc<Registration>,
    owner: Option<Name>,
    start: Timestamp,
    end: Timestamp,
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
    let mut writes = Vec::new();
    for one in &counted {
        writes.extend(usages.get(&one.key).and_then(|usage| status(books, one, &counts, usage)));
    }
    writes
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
        let known = known_period(registration).filter(|(_, end)| booked < *end);
        let known = known.filter(|_| !books.is_approved(key));
        let period = known.or_else(|| energy_period(&books.cluster, registration, booked));
        let (start, end) = period?;
        // Without an exporter there is no meter. Without a reading, an energy limit holds mining.
        if !books.has_exporter() && energy_limit(&books.cluster, &registration.spec).is_some() {
            return None;
        }
        let owner = owner(books, key, registration);
        Some(Counted { key: key.clone(), registration: registration.clone(), owner, start, end })
    });
    counted.collect()
}

/// Returns the period of the usage in a registration's status.
fn known_period(registration: &Registration) -> Option<(Timestamp, Timestamp)> {
    let usage = registration.status.as_ref()?.usage.as_ref()?;
    Some((timestamp(&usage.period_start), timestamp(usage.period_end.as_ref()?)))
}

/// Returns `None` for a registration that is not metered yet, or whose status has all that matters.
fn status(
    books: &Bookkeeper,
    counted: &Counted,
    counts: &Counts,
    usage: &Usage,
) -> Option<ApiRequest> {
    let Counted { key, registration, owner, start, end } = counted;
    let cluster = &books.cluster;
    let deleted = owner
        .as_ref()
        .map(|owner| counts.of_owner(owner, *start, |of| !is_of_owner(cluster, of, owner)));
    let used = daylight_crds::Usage {
        metered_until: time(usage.metered_until?)?,
        period_start: time(*start)?,
        period_end: time(*end),
        millijoules: Millijoules(usage.millijoules),
        deleted_millijoules: deleted.filter(|deleted| *deleted > 0).map(Millijoules),
        peak_watts: (usage.peak_watts > 0).then_some(usage.peak_watts),
    };
    let uid = registration.metadata.uid.as_deref()?;
    // Where only power is limited, no more than the peak matters, which seldom changes.
    let known = registration.status.as_ref().and_then(|status| status.usage.as_ref());
    if energy_limit(cluster, &registration.spec).is_none()
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

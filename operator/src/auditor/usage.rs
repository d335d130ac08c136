//! Energy usage of registrations, in their status.

use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_cluster::Cluster;
use daylight_crds::{Millijoules, Registration};
use daylight_meter::Usage;
use serde_json::json;

use super::bookkeeper::Bookkeeper;
use super::cluster_writes::MANAGER;
use crate::api_requests::{self, ApiRequest};
use crate::conditions::time;
use crate::view::energy::{energy_limit, energy_period};

/// Begins the periods of energy limits that are due, and returns the requests that set the usage of
/// registrations.
pub(super) fn statuses(books: &mut Bookkeeper) -> Vec<ApiRequest> {
    let booked = books.meter.booked_until();
    let registrations: Vec<(Name, Arc<Registration>, Timestamp)> = books
        .cluster
        .registrations()
        // A registration that lacks the authority's signature gets no usage, and without usage
        // nothing mines under an energy limit, whatever the controller makes of the approval.
        .filter(|(key, _)| books.is_signed(key))
        .filter_map(|(key, registration)| {
            let (start, _) = energy_period(&books.cluster, registration, booked)?;
            Some((key.clone(), registration.clone(), start))
        })
        .collect();
    let meter = &mut books.meter;
    meter.begin_periods(registrations.iter().map(|(key, _, start)| (key.clone(), *start)));
    let usages = meter.usages(registrations.iter().map(|(key, ..)| key));
    let mut writes = Vec::new();
    for (key, registration, _) in &registrations {
        writes.extend(
            usages.get(key).and_then(|usage| status(&books.cluster, key, registration, usage)),
        );
    }
    writes
}

/// Returns `None` for a registration that is not metered yet, or whose status has all that matters.
fn status(
    cluster: &Cluster,
    key: &str,
    registration: &Registration,
    usage: &Usage,
) -> Option<ApiRequest> {
    let used = daylight_crds::Usage {
        metered_until: time(usage.metered_until?)?,
        period_start: time(usage.start)?,
        millijoules: Millijoules(usage.millijoules),
        peak_watts: (usage.peak_watts > 0).then_some(usage.peak_watts),
    };
    let uid = registration.metadata.uid.as_deref()?;
    // Where only power is limited, no more than the peak matters, which seldom changes.
    let known = registration.status.as_ref().and_then(|status| status.usage.as_ref());
    if energy_limit(cluster, &registration.spec).is_none()
        && known.is_some_and(|known| {
            known.peak_watts == used.peak_watts && known.period_start == used.period_start
        })
    {
        return None;
    }
    let status = json!({ "usage": used });
    Some(api_requests::apply_status::<Registration>(key, uid, MANAGER, &status))
}

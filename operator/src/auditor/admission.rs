//! The admission policies of this installation and their bindings: an edit of one, such as `Warn` in place
//! of `Deny`, lets pods pass that the positive list would refuse, so each is on record.

use daylight_base::{Name, Timestamp};
use daylight_cluster::Change;
use daylight_cluster::slim::Custom;
use daylight_cluster::store::Store;
use daylight_meter::{Meter, ObjectKind, ObservedObject};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use serde_json::json;

use crate::view::digest;

/// Beginning of the names of Daylight's own.
const OWN: &str = "daylight-";

/// Policies and bindings, as they are now.
#[derive(Default)]
pub(super) struct AdmissionObjects {
    policies: Store<Custom<ValidatingAdmissionPolicy>>,
    bindings: Store<Custom<ValidatingAdmissionPolicyBinding>>,
    /// Whether something has changed since the last record.
    changed: bool,
}

impl AdmissionObjects {
    pub(super) fn policy(&mut self, change: Change<Custom<ValidatingAdmissionPolicy>>) {
        self.policies.apply(change);
        self.changed = true;
    }

    pub(super) fn binding(&mut self, change: Change<Custom<ValidatingAdmissionPolicyBinding>>) {
        self.bindings.apply(change);
        self.changed = true;
    }

    /// Records what has changed.
    pub(super) fn record(&mut self, meter: &mut Meter, now: Timestamp) {
        if std::mem::take(&mut self.changed) {
            record(&self.policies, ObjectKind::ValidatingAdmissionPolicy, meter, now, |policy| {
                digest::of(&policy.spec)
            });
            let kind = ObjectKind::ValidatingAdmissionPolicyBinding;
            record(&self.bindings, kind, meter, now, |binding| digest::of(&binding.spec));
        }
    }
}

/// Records the objects of one kind once they are listed. One that cannot be read has the digest of that
/// sentence.
fn record<K>(
    objects: &Store<Custom<K>>,
    kind: ObjectKind,
    meter: &mut Meter,
    now: Timestamp,
    digest_of: impl Fn(&K) -> String,
) {
    if objects.listed().is_none() {
        return;
    }
    let recorded = meter.objects().filter(|object| object.object == kind);
    let gone = recorded.map(|object| object.name.clone());
    for name in gone.filter(|name| objects.get(name).is_none()).collect::<Vec<Name>>() {
        meter.object_gone(kind, &name, now);
    }
    for object in objects.values().filter(|object| object.key.starts_with(OWN)) {
        let digest = match &object.object {
            Ok(object) => digest_of(object),
            Err(sentence) => digest::of(&json!({ "unreadable": sentence })),
        };
        let seen = ObservedObject {
            object: kind,
            name: object.key.clone(),
            uid: (&*object.uid).into(),
            generation: u64::try_from(object.generation).unwrap_or_default(),
            digest: digest.into(),
            decision: None,
            standing: None,
        };
        meter.object(seen, now);
    }
}

#[cfg(test)]
mod tests {
    use daylight_cluster::Round;
    use daylight_meter::{Config, Entry};

    use super::*;

    fn binding(
        name: &str,
        generation: u64,
        actions: &[&str],
    ) -> Custom<ValidatingAdmissionPolicyBinding> {
        let object = json!({
            "metadata": {
                "name": name, "uid": name, "generation": generation,
                "resourceVersion": (100 + generation).to_string(),
            },
            "spec": {"policyName": name, "validationActions": actions},
        });
        serde_json::from_value(object).unwrap()
    }

    /// Records, and returns the name, generation and digest of each entry, and whether it is gone.
    fn recorded(
        admission: &mut AdmissionObjects,
        meter: &mut Meter,
    ) -> Vec<(Name, u64, Name, bool)> {
        admission.record(meter, Timestamp(1));
        let objects = meter.take_entries().into_iter().filter_map(|entry| match entry {
            Entry::Object(entry) => {
                let seen = entry.seen;
                Some((seen.name, seen.generation, seen.digest, entry.gone))
            }
            _ => None,
        });
        objects.collect()
    }

    #[test]
    fn each_edit_of_a_binding_is_recorded_and_foreign_ones_are_not() {
        let mut meter = Meter::new(Config::default());
        let mut admission = AdmissionObjects::default();
        admission.binding(Change::Listing);
        admission.binding(Change::Item(Box::new(binding("daylight-miner-pods", 1, &["Deny"]))));
        admission.binding(Change::Item(Box::new(binding("of-another", 1, &["Deny"]))));
        assert_eq!(recorded(&mut admission, &mut meter), [], "the list is not complete");
        admission.binding(Change::Listed { version: 110, round: Round(0) });
        let first = recorded(&mut admission, &mut meter);
        assert_eq!(first.len(), 1, "{first:?}");

        admission.binding(Change::Applied(Box::new(binding("daylight-miner-pods", 2, &["Warn"]))));
        let edited = recorded(&mut admission, &mut meter);
        assert_eq!(edited[0].1, 2);
        assert_ne!(edited[0].2, first[0].2, "the digest is that of the new spec");

        // Deleted while the auditor was away: the next list does not have it.
        let mut restarted = AdmissionObjects::default();
        restarted.binding(Change::Listing);
        restarted.binding(Change::Listed { version: 120, round: Round(0) });
        let gone = recorded(&mut restarted, &mut meter);
        assert_eq!((gone.len(), gone[0].3), (1, true));
    }
}

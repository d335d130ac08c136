//! The admission policies of this installation and their bindings: an edit of one, such as `Warn` in place
//! of `Deny`, lets pods pass that the positive list would refuse, so each is on record.

use daylight_base::{Name, Timestamp};
use daylight_cluster::Change;
use daylight_cluster::slim::Custom;
use daylight_cluster::store::Store;
use daylight_meter::{Meter, ObjectKind, ObservedObject};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicyBindingSpec,
};
use serde_json::{Value, json};
use strum::{IntoStaticStr, VariantArray};

use crate::shipped::{self, Comparison};
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
    /// Whether they were compared with this version's since something has changed.
    compared: bool,
}

/// Daylight's policies and bindings, compared with those of this version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AdmissionState {
    pub(super) expected: usize,
    pub(super) found: usize,
    /// Those of another content than the chart of this version gives them, whatever its values.
    pub(super) altered: usize,
    /// The weakest mode of the rules about work other than miners'; `None` without a binding of them.
    pub(super) mode: Option<AdmissionMode>,
}

/// Mode of the rules about work other than miners', the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub(super) enum AdmissionMode {
    /// Nothing is done.
    Off,
    Audit,
    Warn,
    Enforce,
}

impl AdmissionMode {
    fn of(actions: &[String]) -> Self {
        let has = |action: &str| actions.iter().any(|known| known == action);
        if has("Deny") {
            Self::Enforce
        } else if has("Warn") {
            Self::Warn
        } else if has("Audit") {
            Self::Audit
        } else {
            Self::Off
        }
    }
}

impl AdmissionState {
    /// Counts an object that this version has.
    fn count(&mut self, wanted: &Value, found: Option<Value>, namespace: &str) {
        self.expected += 1;
        let Some(found) = found else { return };
        self.found += 1;
        let comparison = shipped::compare(&wanted["spec"], &found, namespace);
        self.altered += usize::from(comparison == Comparison::Different);
    }

    /// Counts a binding. Where the mode is a value of the chart, no mode is an alteration.
    fn count_binding(
        &mut self,
        wanted: &Value,
        found: Option<&ValidatingAdmissionPolicyBindingSpec>,
        namespace: &str,
    ) {
        let spec = found.map(|spec| serde_json::to_value(spec).unwrap_or_default());
        let actions = found.map_or(&[][..], |spec| &spec.validation_actions);
        let shipped = &wanted["spec"]["validationActions"];
        let follows_mode =
            shipped.as_array().is_some_and(|actions| !actions.contains(&json!("Deny")));
        let spec = spec.map(|mut spec| {
            if follows_mode {
                spec["validationActions"] = shipped.clone();
                let mode = AdmissionMode::of(actions);
                self.mode = Some(self.mode.map_or(mode, |weakest| weakest.min(mode)));
            }
            spec
        });
        self.count(wanted, spec, namespace);
    }
}

impl AdmissionObjects {
    pub(super) fn policy(&mut self, change: Change<Custom<ValidatingAdmissionPolicy>>) {
        self.policies.apply(change);
        (self.changed, self.compared) = (true, false);
    }

    pub(super) fn binding(&mut self, change: Change<Custom<ValidatingAdmissionPolicyBinding>>) {
        self.bindings.apply(change);
        (self.changed, self.compared) = (true, false);
    }

    /// Compares them with this version's, installed into `namespace`; `None` where nothing has changed
    /// since the last time, or they are not listed.
    pub(super) fn compare_again(&mut self, namespace: &str) -> Option<AdmissionState> {
        let listed = self.policies.listed().is_some() && self.bindings.listed().is_some();
        if self.compared || !listed {
            return None;
        }
        self.compared = true;
        Some(self.compare(namespace))
    }

    fn compare(&self, namespace: &str) -> AdmissionState {
        let mut state = AdmissionState::default();
        let name =
            |wanted: &Value| wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        for wanted in shipped::objects("ValidatingAdmissionPolicy") {
            let found = self.policies.get(&name(&wanted)).and_then(Custom::get);
            let spec = found.map(|found| serde_json::to_value(&found.spec).unwrap_or_default());
            state.count(&wanted, spec, namespace);
        }
        for wanted in shipped::objects("ValidatingAdmissionPolicyBinding") {
            let found = self.bindings.get(&name(&wanted)).and_then(Custom::get);
            state.count_binding(&wanted, found.map(|found| &found.spec), namespace);
        }
        state
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
            declares: None,
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

    fn list<K>(kind: &str, edit: impl Fn(&mut Value)) -> Vec<Change<Custom<K>>>
    where
        Custom<K>: serde::de::DeserializeOwned,
    {
        let mut changes = vec![Change::Listing];
        for mut object in shipped::objects(kind) {
            object["metadata"]["uid"] = json!("1");
            object["metadata"]["generation"] = json!(1);
            object["metadata"]["resourceVersion"] = json!("100");
            edit(&mut object);
            changes.push(Change::Item(Box::new(serde_json::from_value(object).unwrap())));
        }
        changes.push(Change::Listed { version: 110, round: Round(0) });
        changes
    }

    /// The state of an installation whose objects are edited.
    fn installed(edit: impl Fn(&mut Value)) -> AdmissionState {
        let mut admission = AdmissionObjects::default();
        for change in list("ValidatingAdmissionPolicy", &edit) {
            admission.policy(change);
        }
        assert_eq!(admission.compare_again("daylight-system"), None, "bindings are not listed");
        for change in list("ValidatingAdmissionPolicyBinding", &edit) {
            admission.binding(change);
        }
        let state = admission.compare_again("daylight-system").unwrap();
        assert_eq!(admission.compare_again("daylight-system"), None, "nothing has changed");
        state
    }

    #[test]
    fn missing_and_altered_policies_are_counted_and_the_weakest_mode_is_in_force() {
        let shipped = installed(|_| {});
        assert!(shipped.expected > 20 && shipped.found == shipped.expected, "{shipped:?}");
        assert_eq!((shipped.altered, shipped.mode), (0, Some(AdmissionMode::Audit)));

        // A mode is a value of the chart.
        let set = |actions: Value| {
            move |object: &mut Value| {
                let known = &mut object["spec"]["validationActions"];
                if known.as_array().is_some_and(|known| known == &[json!("Audit")]) {
                    *known = actions.clone();
                }
            }
        };
        let enforced = installed(set(json!(["Deny", "Audit"])));
        assert_eq!((enforced.altered, enforced.mode), (0, Some(AdmissionMode::Enforce)));
        let warned = installed(set(json!(["Warn", "Audit"])));
        assert_eq!((warned.altered, warned.mode), (0, Some(AdmissionMode::Warn)));

        // Rules about miners are always enforced.
        let weakened = installed(|object| {
            if object["metadata"]["name"] == "daylight-miner-pods"
                && object["kind"] == "ValidatingAdmissionPolicyBinding"
            {
                object["spec"]["validationActions"] = json!(["Audit"]);
            }
        });
        assert_eq!((weakened.found, weakened.altered), (shipped.expected, 1));
        let renamed = installed(|object| {
            if object["metadata"]["name"] == "daylight-miner-pods" {
                object["metadata"]["name"] = json!("daylight-miner-pods-2");
            }
        });
        assert_eq!((renamed.found, renamed.altered), (shipped.expected - 2, 0));
    }
}

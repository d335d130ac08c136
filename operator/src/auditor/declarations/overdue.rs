//! Declarations that are not filed though their due day is over.

use daylight_base::{Name, Timestamp};
use daylight_cluster::names::parts;
use daylight_cluster::timestamp;
use daylight_crds::{
    CONDITION_OVERDUE, Declaration, DeclarationFiling, DeclarationSpec, DeclarationStatus,
};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Resource as _;

use crate::api_requests::{self, ApiRequest};

/// Reason of the condition and of the Event.
pub(super) const NOT_FILED: &str = "NotFiled";

/// Returns whether a declaration is not filed though its due day is over.
pub(in crate::auditor) fn is_overdue(
    declaration: &Declaration,
    filing: Option<&DeclarationFiling>,
    now: Timestamp,
) -> bool {
    filing.is_none() && timestamp(&declaration.spec.due_at) <= now
}

/// The sentence in the condition and in the Event.
pub(super) fn sentence(declaration: &Declaration) -> String {
    let DeclarationSpec { registration, period, due_at, .. } = &declaration.spec;
    format!(
        "Registration {registration} is due for {period} since {}: file it with kubectl daylight \
         file.",
        due_at.0
    )
}

/// Returns whether a status has the condition.
fn has_condition(status: Option<&DeclarationStatus>) -> bool {
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    conditions.iter().any(|one| one.type_ == CONDITION_OVERDUE && one.status == "True")
}

/// Returns the Event of a declaration whose next status is the first one in which it is overdue.
///
/// Its name follows from the declaration, so that the API server has it once, however often the status is
/// written until it is accepted.
pub(super) fn event(
    key: &Name,
    uid: &str,
    declaration: &Declaration,
    next: &DeclarationStatus,
    now: Timestamp,
) -> Option<ApiRequest> {
    if has_condition(declaration.status.as_ref()) || !has_condition(Some(next)) {
        return None;
    }
    let (namespace, name) = parts(key);
    let event = Event {
        metadata: ObjectMeta {
            // 253 characters at most.
            name: Some(format!("{name:.200}.overdue-{uid:.40}")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(jiff::Timestamp::from_millisecond(now.0).ok()?)),
        reporting_controller: Some("daylight.dev/auditor".into()),
        reporting_instance: Some("daylight-auditor".into()),
        action: Some("Explain".into()),
        reason: Some(NOT_FILED.into()),
        note: Some(format!("{:.1000}", sentence(declaration))),
        type_: Some("Warning".into()),
        regarding: Some(ObjectReference {
            api_version: Some(Declaration::api_version(&()).into_owned()),
            kind: Some(Declaration::kind(&()).into_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    };
    Some(api_requests::create_event(namespace, &event))
}

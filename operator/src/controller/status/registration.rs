//! The status of a `Registration`, except for approval and usage, which other writers own.

use daylight_base::Timestamp;
use daylight_crds::{
    CONDITION_LAPSED, CONDITION_LIMIT_FORECAST, CONDITION_OVER_LIMIT, CONDITION_READY, Held,
    LimitForecast, LimitOf, Millijoules, Registration, RegistrationSpec, RegistrationState,
    RegistrationStatus,
};
use daylight_planner::explain::{Forecast, Reason, RegistrationReport};
use daylight_planner::model::Approval;

use crate::conditions::{Conditions, ReasonText, time};
use crate::controller::lapses::{self, Lapse};
use crate::view::RegisteredWork;

/// The reason of [`CONDITION_OVER_LIMIT`] when more pods run than the registration allows.
pub(crate) const REPLICA_LIMIT: &str = "RegistrationReplicaLimit";

/// The status of a registration by the plan and by the pods that run under it.
pub(super) fn status(
    registration: &Registration,
    report: &RegistrationReport,
    work: RegisteredWork,
    lapse: Option<&Lapse>,
    now: Timestamp,
) -> RegistrationStatus {
    let observed = registration.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = registration.metadata.generation;
    let why = ReasonText::from(&report.state);
    let active = matches!(report.state, Reason::Active { .. });
    let conditions = Conditions { observed, generation, now };
    let (lapsed, why_lapsed) = lapses::condition(&report.registration, lapse);
    let exceeded = over_limit(registration, report, work);
    let over = exceeded
        .clone()
        .unwrap_or_else(|| ReasonText::new("WithinLimits", "No limit is exceeded."));
    RegistrationStatus {
        observed_generation: generation,
        conditions: vec![
            conditions.make(CONDITION_READY, active, &why),
            conditions.make(CONDITION_OVER_LIMIT, exceeded.is_some(), &over),
            conditions.make(CONDITION_LAPSED, lapsed, &why_lapsed),
            conditions.make(
                CONDITION_LIMIT_FORECAST,
                report.forecast.is_some(),
                &foreseen(registration, report.forecast.as_ref()),
            ),
        ],
        approval: None,
        state: Some(state(&report.state)),
        reason: Some(why.word),
        message: Some(why.sentence),
        usage: None,
        held: Some(Held { gpus: report.gpus, replicas: work.replicas, watts: watts(report, work) }),
        limits_used: Some(limits_used(registration, report, work)),
        days_left: Some(days_left(registration, now)),
        forecast: report.forecast.as_ref().and_then(|forecast| {
            let limit = if forecast.of_owner { LimitOf::Owner } else { LimitOf::Registration };
            Some(LimitForecast { at: time(minute(forecast.at))?, limit, watts: forecast.watts })
        }),
    }
}

/// The watts that count under a registration: those of miners, and those that it declares for pods
/// without GPUs.
pub(crate) fn watts(report: &RegistrationReport, work: RegisteredWork) -> u64 {
    report.watts.saturating_add(work.declared_watts)
}

/// A limit of the registration or its owner that is exceeded now: by the plan, which holds those of
/// miners, or by the pods that tenants create, which nothing but a report can hold.
pub(crate) fn over_limit(
    registration: &Registration,
    report: &RegistrationReport,
    work: RegisteredWork,
) -> Option<ReasonText> {
    if let Some(reason) = &report.over {
        return Some(ReasonText::new(reason.code(), &format!("A limit is exceeded. {reason}")));
    }
    let limits = &registration.spec.limits;
    let key = &report.registration;
    if let Some(most) = limits.replicas.filter(|most| work.replicas > *most) {
        let sentence = format!(
            "A limit is exceeded. Registration {key} allows at most {most} pods at once, and {} run. Stop the others, or file another with a higher limit.",
            work.replicas
        );
        return Some(ReasonText::new(REPLICA_LIMIT, &sentence));
    }
    let most = limits.watts.filter(|most| watts(report, work) > *most)?;
    let reason = Reason::RegistrationPowerLimit { registration: key.clone(), watts: most };
    Some(ReasonText::new(reason.code(), &format!("A limit is exceeded. {reason}")))
}

/// Truncates to whole minutes, so that small differences of readings do not change the status.
fn minute(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(60_000) * 60_000)
}

fn foreseen(registration: &Registration, forecast: Option<&Forecast>) -> ReasonText {
    match forecast {
        Some(forecast) => {
            let at = time(minute(forecast.at)).map(|at| at.0.to_string()).unwrap_or_default();
            let kwh = forecast.limit_mj / Millijoules::KILOWATT_HOUR.0;
            let whose = if forecast.of_owner { "the owner's limit" } else { "the limit" };
            ReasonText::new(
                "LimitAhead",
                &format!(
                    "At the current {} W, {whose} of {kwh} kWh will be reached at {at}. Mining stops before then.",
                    forecast.watts
                ),
            )
        }
        None if !limits_energy(&registration.spec) => {
            ReasonText::new("NoEnergyLimit", "No energy limit is set.")
        }
        None => ReasonText::new(
            "LimitNotAhead",
            "At the current rate, no energy limit will be reached in this period; without a meter reading there is no forecast.",
        ),
    }
}

fn limits_energy(spec: &RegistrationSpec) -> bool {
    let of_owner = spec.owner_limits.as_ref().and_then(|limits| limits.energy.as_ref());
    spec.limits.energy.is_some() || of_owner.is_some()
}

/// A text such as `GPUs 4/8, 1200 of 2400 W, 31% of 6000 kWh`, or `pods 1/2` without pools.
fn limits_used(
    registration: &Registration,
    report: &RegistrationReport,
    work: RegisteredWork,
) -> String {
    let spec = &registration.spec;
    let limits = &spec.limits;
    let mut parts = Vec::new();
    match limits.gpus {
        Some(gpus) => parts.push(format!("GPUs {}/{gpus}", report.gpus)),
        None if spec.pools.is_empty() => {}
        None => parts.push(format!("GPUs {}", report.gpus)),
    }
    match limits.replicas {
        Some(most) => parts.push(format!("pods {}/{most}", work.replicas)),
        None if spec.pools.is_empty() => parts.push(format!("pods {}", work.replicas)),
        None => {}
    }
    if let Some(most) = limits.watts {
        parts.push(format!("{} of {most} W", watts(report, work)));
    }
    if let Some(energy) = &limits.energy {
        let usage = registration.status.as_ref().and_then(|status| status.usage.as_ref());
        let limit = u128::from(energy.kwh) * u128::from(Millijoules::KILOWATT_HOUR.0);
        let percent =
            usage.and_then(|usage| (u128::from(usage.millijoules.0) * 100).checked_div(limit));
        match percent {
            Some(percent) => parts.push(format!("{percent}% of {} kWh", energy.kwh)),
            None => parts.push(format!("energy not metered (limit {} kWh)", energy.kwh)),
        }
    }
    parts.join(", ")
}

fn days_left(registration: &Registration, now: Timestamp) -> u32 {
    let left = registration.spec.valid_until.0.as_millisecond().saturating_sub(now.0);
    u32::try_from(left.max(0) / 86_400_000).unwrap_or(u32::MAX)
}

/// The state that a reason puts a registration in.
pub(crate) fn state(reason: &Reason) -> RegistrationState {
    match reason {
        Reason::AwaitingApproval { .. } => RegistrationState::Pending,
        Reason::ApprovalVoided { .. } => RegistrationState::Changed,
        Reason::NotApproved { approval, .. } => match approval {
            Approval::Rejected => RegistrationState::Rejected,
            Approval::Suspended => RegistrationState::Suspended,
            Approval::Revoked => RegistrationState::Revoked,
            Approval::Voided => RegistrationState::Changed,
            _ => RegistrationState::Pending,
        },
        Reason::SignatureMissing { .. } => RegistrationState::SignatureMissing,
        Reason::SignatureInvalid { .. } => RegistrationState::SignatureInvalid,
        Reason::NotYetValid { .. } => RegistrationState::Scheduled,
        Reason::Expired { .. } => RegistrationState::Expired,
        Reason::Invalid { .. }
        | Reason::ClassUnknown { .. }
        | Reason::ClassProhibited { .. }
        | Reason::PoolUnknown { .. }
        | Reason::PoolNotRegistered { .. } => RegistrationState::Invalid,
        // Approved and valid; the reason names what holds its miners back.
        _ => RegistrationState::Active,
    }
}

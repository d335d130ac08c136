//! The API of Daylight, group `daylight.dev`, version `v1alpha1`.
//!
//! | kind | scope | meaning |
//! |---|---|---|
//! | [`GpuPool`] | cluster | a set of GPUs, and when they may mine |
//! | [`ActivityClass`] | cluster | an entry of the positive list |
//! | [`Registration`] | namespaced | who may do which declared work, where, until when, within which limits |
//! | [`Miner`] | namespaced | registered work for idle GPUs |
//! | [`AiJob`] (`AIJob`) | namespaced | a gang of workers that starts when GPUs for all of them are free |
//! | [`Declaration`] | namespaced | what a registration did in one period, for the authority |
//! | [`LeaseRecord`] | namespaced | internal: the end of a lease that the auditor did not record in time |
//! | [`AdmissionList`] | namespaced | internal: what admission policies must know about registrations or classes |
//!
//! The crate holds types, defaults and validation rules, and no behaviour. The rules are CEL:
//! the API server enforces them, and `validate_cel()` of each kind runs the same ones offline.
//! Errors that involve several objects (an unknown class, overlapping pools) are found by the
//! controller, which reports them in a condition.
//!
//! [`definitions`] returns the custom resource definitions, [`manifest`] their YAML. `cargo crds`
//! writes the YAML to this crate's folder, and the page that [`api_reference`] returns to `docs/reference`.

#![allow(
    unreachable_pub,
    reason = "KubeSchema derives a copy of each type inside a function, which the lint reports"
)]

mod activity_class;
mod admission_list;
mod ai_job;
mod declaration;
mod duration;
mod energy;
mod gpu_pool;
pub mod labels;
mod lease_record;
mod manifest;
mod miner;
mod mining;
mod reference;
mod registration;
mod registration_status;
mod rules;
mod schema;

pub use activity_class::{
    ActivityCategory, ActivityClass, ActivityClassSpec, ActivityClassStatus, Assignment,
    RegistrationRule, ReportColumn, ReportItem,
};
pub use admission_list::{AdmissionList, AdmissionListSpec};
pub use ai_job::{AiJob, AiJobSpec, AiJobState, AiJobStatus, Placement, WorkerCounts};
pub use declaration::{
    Declaration, DeclarationFiling, DeclarationSpec, DeclarationState, DeclarationStatus,
    DeclaredAmount, DeclaredEnergy, DeclaredPeak, DeclaredTime, DeclaredTotals, LedgerRange,
    WorkSource,
};
pub use duration::GoDuration;
pub use energy::{EnergyLimit, EnergyPeriod, Millijoules};
pub use gpu_pool::{
    GpuCounts, GpuPool, GpuPoolSpec, GpuPoolStatus, GridConnection, Queueing, Site,
};
pub use lease_record::{LeaseRecord, LeaseRecordSpec, RecordedJob, RecordedJobKind};
pub use manifest::{MAX_MANIFEST_BYTES, ManifestError, definitions, manifest, manifest_name};
pub use miner::{
    Agent, EndedWork, Engine, EngineConfig, Miner, MinerResources, MinerSpec, MinerStatus,
    MinerWork, PasswordSecret, PoolCertificate, WalletSecret,
};
pub use mining::{AutoscaledNodes, Mining, MiningPolicy, MiningWindow, ReclaimUnit};
pub use reference::api_reference;
pub use registration::{
    Filing, Identifier, IdentifiersSecret, Limits, OnLapse, Operator, Payout, Registration,
    RegistrationSpec, Reporting, ReportingPeriod,
};
pub use registration_status::{
    Approval, ApprovalState, Held, LimitForecast, LimitOf, PeriodUsage, RegistrationState,
    RegistrationStatus, Usage,
};

/// The API group of all kinds.
pub const GROUP: &str = "daylight.dev";

/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// The condition of every kind: the object is valid and does what it should.
pub const CONDITION_READY: &str = "Ready";

/// The condition of a [`Registration`]: one of its limits is exceeded.
pub const CONDITION_OVER_LIMIT: &str = "OverLimit";

/// The condition of a [`Registration`]: its energy limit will be reached in this period.
pub const CONDITION_LIMIT_FORECAST: &str = "LimitForecast";

/// The condition of a [`Registration`]: pods of tenants still run though it is not in force.
pub const CONDITION_LAPSED: &str = "Lapsed";

/// The condition of a [`Declaration`]: it is not filed, and its due day is over.
pub const CONDITION_OVERDUE: &str = "Overdue";

/// The condition of an [`AiJob`]: its gang has its GPUs.
pub const CONDITION_ADMITTED: &str = "Admitted";

/// The condition of a [`GpuPool`]: its leases are recorded. Written by the auditor.
pub const CONDITION_METERED: &str = "Metered";

/// The reason of [`CONDITION_METERED`] for which the controller starts no miner: the journal is
/// full.
pub const JOURNAL_FULL: &str = "JournalFull";

/// The condition of an [`AiJob`]: it has ended.
pub const CONDITION_FINISHED: &str = "Finished";

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Serialize;
    use serde_json::json;
    use strum::VariantArray;

    use super::*;

    /// Checks that `T`'s variants are called `names` in text and in JSON.
    fn assert_names<T>(names: &[&str])
    where
        T: Copy + Debug + ToString + Into<&'static str> + Serialize + VariantArray,
    {
        let shown: Vec<String> = T::VARIANTS.iter().map(T::to_string).collect();
        assert_eq!(shown, names);
        for (variant, name) in T::VARIANTS.iter().zip(names) {
            assert_eq!((*variant).into(), *name);
            assert_eq!(serde_json::to_value(variant).unwrap(), json!(name));
        }
    }

    // They leave the process in ConfigMaps, the journal and metric labels.
    #[test]
    fn names_of_variants_are_those_of_the_api() {
        assert_names::<ActivityCategory>(&[
            "DataIndustry",
            "FinancialRegulated",
            "Declared",
            "Prohibited",
        ]);
        assert_names::<Assignment>(&["Guaranteed", "IdleOnly", "None"]);
        assert_names::<RegistrationRule>(&["Required", "NotRequired"]);
        assert_names::<ReportItem>(&[
            "GpuTime",
            "Energy",
            "PeakPower",
            "OperatingHours",
            "Hashrate",
            "Shares",
            "AssetAmount",
        ]);
        assert_names::<ReportColumn>(&["Compute", "Finance", "Mining"]);
        assert_names::<ApprovalState>(&["Approved", "Rejected", "Suspended", "Revoked"]);
        assert_names::<RegistrationState>(&[
            "Pending",
            "Scheduled",
            "Active",
            "Changed",
            "SignatureMissing",
            "SignatureInvalid",
            "Expired",
            "Rejected",
            "Suspended",
            "Revoked",
            "Invalid",
        ]);
        assert_names::<LimitOf>(&["Registration", "Owner"]);
        assert_names::<ReportingPeriod>(&["Month", "Quarter", "Year"]);
        assert_names::<DeclarationState>(&["Draft", "Ready", "Filed", "Superseded"]);
        assert_names::<WorkSource>(&["Seen", "Claimed", "Mixed"]);
        assert_names::<EnergyPeriod>(&["Day", "Week", "Month", "Year"]);
        assert_names::<MiningPolicy>(&["Observe", "Fill", "Hold", "Drain"]);
        assert_names::<ReclaimUnit>(&["Gpu", "Node"]);
        assert_names::<AutoscaledNodes>(&["Skip", "Use"]);
        assert_names::<Queueing>(&["StrictFifo", "Backfill"]);
        assert_names::<Agent>(&["Daylight", "Other"]);
        assert_names::<AiJobState>(&[
            "Queued",
            "Reserved",
            "Starting",
            "Running",
            "Succeeded",
            "Failed",
        ]);
    }
}

//! The condition `Metered` of pools.

use daylight_base::Timestamp;
use daylight_crds::{CONDITION_METERED, GpuPool, JOURNAL_FULL};
use daylight_meter::Imbalance;
use serde_json::json;

use super::bookkeeper::UnreadEnergy;
use super::cluster_writes::MANAGER;
use super::steady_clock::ClockDifference;
use crate::api_requests::{self, ApiRequest};
use crate::conditions::{Conditions, ReasonText};

/// State of the records, from the best to the worst.
pub(super) enum RecordState<'a> {
    Metering,
    /// Every lease is recorded, but the energy of devices is not read.
    EnergyUnread(&'a UnreadEnergy),
    /// Time is uncertain, so none is booked.
    ClockDiffers(ClockDifference),
    /// A bug.
    BooksOpen(Imbalance),
    /// The journal cannot be written, for this reason; entries wait in memory.
    JournalUnwritable(&'a str),
    /// Memory for waiting entries is used up, for this reason: nothing more is recorded.
    JournalFull(Option<&'a str>),
}

impl RecordState<'_> {
    /// The reason of the condition. `JournalFull` stops new miners: the controller reads it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Metering => "Metering",
            Self::EnergyUnread(_) => "EnergyUnread",
            Self::ClockDiffers(_) => "ClockDiffers",
            Self::BooksOpen(_) => "BooksOpen",
            Self::JournalUnwritable(_) => "JournalUnwritable",
            Self::JournalFull(_) => JOURNAL_FULL,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Metering => "Every lease is recorded.".into(),
            Self::EnergyUnread(unread) => unread.to_string(),
            Self::ClockDiffers(difference) => format!(
                "Nothing is booked while the auditor's clock is {difference}; correct the clock of \
                 the auditor's node or of the API server."
            ),
            Self::BooksOpen(imbalance) => {
                format!("A bug: {imbalance}. Report it with the auditor's log.")
            }
            Self::JournalUnwritable(cause) => format!("Entries wait in memory: {cause}."),
            Self::JournalFull(cause) => {
                let cause = cause.unwrap_or("the volume is too slow; use a faster one");
                format!("No miner is started, because no memory is left for entries: {cause}.")
            }
        }
    }
}

/// Returns the request that sets the condition of a pool; `None` if it is set already.
pub(super) fn condition(
    pool: &GpuPool,
    state: &RecordState<'_>,
    now: Timestamp,
) -> Option<ApiRequest> {
    let holds = matches!(state, RecordState::Metering);
    let why = ReasonText::new(state.reason(), &state.sentence());
    let observed = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = pool.metadata.generation;
    let wanted = Conditions { observed, generation, now }.make(CONDITION_METERED, holds, &why);
    if observed.contains(&wanted) {
        return None;
    }
    let (name, uid) = (pool.metadata.name.as_deref()?, pool.metadata.uid.as_deref()?);
    let status = json!({ "conditions": [wanted] });
    Some(api_requests::apply_status::<GpuPool>(name, uid, MANAGER, &status))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daylight_meter::Book;

    use super::*;

    #[test]
    fn each_state_has_its_reason_and_sentence() {
        let imbalance =
            Imbalance { book: Book::Time, owner: "pool frankfurt".into(), booked: 1, total: 2 };
        let cause = "cannot write commit of the journal (disk full)";
        let mut unread = UnreadEnergy::default();
        (unread.devices, unread.of) = (1, 8);
        for (state, reason, sentence) in [
            (RecordState::Metering, "Metering", "Every lease is recorded."),
            (
                RecordState::EnergyUnread(&unread),
                "EnergyUnread",
                "The energy of 1 of 8 GPUs is not read.",
            ),
            (
                RecordState::ClockDiffers(ClockDifference::ahead(Duration::from_hours(720))),
                "ClockDiffers",
                "Nothing is booked while the auditor's clock is 720h ahead of the API server's; \
                 correct the clock of the auditor's node or of the API server.",
            ),
            (
                RecordState::BooksOpen(imbalance.clone()),
                "BooksOpen",
                &*format!("A bug: {imbalance}. Report it with the auditor's log."),
            ),
            (
                RecordState::JournalUnwritable(cause),
                "JournalUnwritable",
                "Entries wait in memory: cannot write commit of the journal (disk full).",
            ),
            (
                RecordState::JournalFull(Some(cause)),
                "JournalFull",
                "No miner is started, because no memory is left for entries: cannot write commit \
                 of the journal (disk full).",
            ),
            (
                RecordState::JournalFull(None),
                "JournalFull",
                "No miner is started, because no memory is left for entries: the volume is too \
                 slow; use a faster one.",
            ),
        ] {
            assert_eq!((state.reason(), &*state.sentence()), (reason, sentence));
        }
    }

    #[test]
    fn a_condition_that_is_set_is_not_written_again() {
        let mut pool: GpuPool = serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
            "metadata": {"name": "p", "uid": "1", "generation": 3},
            "spec": {"resource": "nvidia.com/gpu", "nodeSelector": {}, "site": {"name": "s"}},
        }))
        .unwrap();
        let now = Timestamp::from_seconds(100);
        let write = condition(&pool, &RecordState::Metering, now).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&write.body).unwrap();
        assert_eq!(body["status"]["conditions"][0]["status"], "True");
        pool.status = serde_json::from_value(body["status"].clone()).unwrap();
        assert!(condition(&pool, &RecordState::Metering, now).is_none());
        let full = condition(&pool, &RecordState::JournalFull(None), now).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&full.body).unwrap();
        assert_eq!(body["status"]["conditions"][0]["status"], "False");
    }
}

//! Operating time: how long pods ran, and what they requested meanwhile.
//!
//! It is booked for every lease, whether or not it holds GPUs. Unlike device time it has no whole
//! that it is a part of; what accounts operated is the sum over their leases.

use serde::{Deserialize, Serialize};

use crate::amount::{Bounded, is_zero};

/// What a pod requests of its node, and the storage that it claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requested {
    /// Thousandths of a CPU.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub millicores: u64,
    /// Rounded up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_mib: u64,
    /// Sizes of its volume claims, rounded up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub storage_mib: u64,
}

impl Requested {
    /// Returns whether it requests nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Operating time of an account in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operated {
    /// Pod-milliseconds.
    #[serde(default, skip_serializing_if = "Bounded::is_nothing")]
    pub pod_ms: Bounded,
    /// Of these, pod-milliseconds of leases that have ended.
    #[serde(with = "crate::amount::decimal", default, skip_serializing_if = "is_zero")]
    pub ended_ms: u64,
    /// Thousandths of a CPU × milliseconds.
    #[serde(default, skip_serializing_if = "Bounded::is_nothing")]
    pub millicore_ms: Bounded<u128>,
    /// MiB × milliseconds.
    #[serde(default, skip_serializing_if = "Bounded::is_nothing")]
    pub memory_mib_ms: Bounded<u128>,
    /// MiB × milliseconds.
    #[serde(default, skip_serializing_if = "Bounded::is_nothing")]
    pub storage_mib_ms: Bounded<u128>,
}

impl Operated {
    /// Returns the operating time of a pod over milliseconds.
    pub(crate) fn over(ms: Bounded, requested: Requested) -> Self {
        let Requested { millicores, memory_mib, storage_mib } = requested;
        Self {
            pod_ms: ms,
            ended_ms: 0,
            millicore_ms: times(millicores, ms),
            memory_mib_ms: times(memory_mib, ms),
            storage_mib_ms: times(storage_mib, ms),
        }
    }

    /// Returns the doubt about milliseconds over which `after` is booked, and in which it replaced `before`
    /// at some time.
    pub(crate) fn in_doubt(before: Requested, after: Requested, ms: u64) -> Self {
        let doubt = |before: u64, after: u64| {
            let below = u128::from(after.saturating_sub(before)) * u128::from(ms);
            let above = u128::from(before.saturating_sub(after)) * u128::from(ms);
            Bounded { value: 0, below, above }
        };
        Self {
            millicore_ms: doubt(before.millicores, after.millicores),
            memory_mib_ms: doubt(before.memory_mib, after.memory_mib),
            storage_mib_ms: doubt(before.storage_mib, after.storage_mib),
            ..Self::default()
        }
    }

    /// Adds amounts and their bounds.
    pub(crate) fn add(&mut self, more: Self) {
        let Self { pod_ms, ended_ms, millicore_ms, memory_mib_ms, storage_mib_ms } = more;
        self.pod_ms.add(pod_ms);
        self.ended_ms += ended_ms;
        self.millicore_ms.add(millicore_ms);
        self.memory_mib_ms.add(memory_mib_ms);
        self.storage_mib_ms.add(storage_mib_ms);
    }

    /// Returns whether nothing is booked.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns an amount of something that a pod has for milliseconds.
fn times(amount: u64, ms: Bounded) -> Bounded<u128> {
    let times = |ms: u64| u128::from(amount) * u128::from(ms);
    Bounded { value: times(ms.value), below: times(ms.below), above: times(ms.above) }
}

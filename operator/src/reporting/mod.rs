//! What a registration did in a period of its declaration, and what a job used, added up from the entries of
//! a ledger.
//!
//! It has no clock and does no I/O: commands and the auditor compute the same figures from the
//! same entries.

#[cfg(test)]
pub(crate) mod history;
pub(crate) mod numbers;
mod period;
mod receipt;
mod totals;

pub(crate) use self::period::midnight;
pub use self::period::{
    PeriodError, PeriodLength, ReportingInterval, ReportingPeriod, tzdata_version,
};
pub use self::receipt::{
    JobFigures, JobReceipts, MethodEnergy, PodFigures, ProvedFigures, Run, UsedDevice, WantedJob,
};
pub use self::totals::{
    GapSum, LimitCount, Peak, PeriodTotals, Straddling, Totals, UnreportedNode,
};

//! What a registration did in a period of its declaration, added up from the entries of a ledger.
//!
//! It has no clock and does no I/O: `daylight report` and the auditor compute the same figures from the
//! same entries.

#[cfg(test)]
pub(crate) mod history;
pub(crate) mod numbers;
mod period;
mod totals;

pub(crate) use self::period::midnight;
pub use self::period::{
    PeriodError, PeriodLength, ReportingInterval, ReportingPeriod, tzdata_version,
};
pub use self::totals::{
    GapSum, LimitCount, Peak, PeriodTotals, Straddling, Totals, UnreportedNode,
};

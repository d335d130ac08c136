//! The one place that asks what time it is.

use daylight_base::Timestamp;

/// The wall clock.
pub fn wall_clock() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

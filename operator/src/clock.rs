//! The one place that reads the wall clock.

use daylight_base::Timestamp;

/// The wall clock.
pub fn wall_clock() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

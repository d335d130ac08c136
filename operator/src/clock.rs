//! The one place that reads the wall clock.

use daylight_base::Timestamp;
use jiff::Timestamp as Instant;

/// The wall clock.
pub fn wall_clock() -> Timestamp {
    Timestamp(now().as_millisecond())
}

/// The wall clock, to the nanosecond.
pub fn now() -> Instant {
    let now = Instant::now();
    #[cfg(debug_assertions)]
    let now = now.saturating_add(offset()).unwrap_or(now);
    now
}

/// The error of this process's clock: the seconds in the file that `DAYLIGHT_CLOCK_OFFSET` names. Only
/// debug builds read it, so that tests can set the clock of one process.
#[cfg(debug_assertions)]
fn offset() -> jiff::SignedDuration {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("DAYLIGHT_CLOCK_OFFSET").map(PathBuf::from));
    let text = FILE.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    let seconds = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    jiff::SignedDuration::from_secs(seconds)
}

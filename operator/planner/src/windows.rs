//! Mining windows: the spans of time in which a pool may mine.

use daylight_base::Timestamp;
use serde::{Deserialize, Serialize};

/// A stretch of time, `start` included, `end` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    pub start: Timestamp,
    /// When it is over.
    pub end: Timestamp,
}

/// When a pool may mine.
///
/// The caller compiles cron expressions and time zones into plain spans up to a horizon. A plan's
/// `wake_at` is never after the horizon, so that the caller can compile further.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Windows {
    #[default]
    Always,
    /// Within these spans, which are sorted and do not touch.
    Spans {
        /// The spans that are not over yet.
        spans: Vec<Span>,
        /// Up to when the spans are known.
        horizon: Timestamp,
    },
}

/// State of [`Windows`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// Open, until the moment given, if it ever ends.
    Open(Option<Timestamp>),
    /// Closed; it opens at the moment given, if that is known.
    Closed(Option<Timestamp>),
}

impl Windows {
    /// Sorts the spans and joins those that overlap or touch.
    pub fn from_spans(mut spans: Vec<Span>, horizon: Timestamp) -> Self {
        spans.retain(|span| span.start < span.end);
        spans.sort();
        let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match joined.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => joined.push(span),
            }
        }
        Self::Spans { spans: joined, horizon }
    }

    /// Returns whether the windows are open at `now`, and until or from when.
    pub fn at(&self, now: Timestamp) -> WindowState {
        match self {
            Self::Always => WindowState::Open(None),
            Self::Spans { spans, .. } => match spans.iter().find(|span| now < span.end) {
                Some(span) if span.start <= now => WindowState::Open(Some(span.end)),
                Some(span) => WindowState::Closed(Some(span.start)),
                None => WindowState::Closed(None),
            },
        }
    }

    /// Returns the time up to which the windows are known; `None` if forever.
    pub fn horizon(&self) -> Option<Timestamp> {
        match self {
            Self::Always => None,
            Self::Spans { horizon, .. } => Some(*horizon),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: i64, end: i64) -> Span {
        Span { start: Timestamp(start), end: Timestamp(end) }
    }

    #[test]
    fn spans_that_overlap_or_touch_become_one() {
        let windows = Windows::from_spans(
            vec![span(50, 60), span(0, 10), span(10, 20), span(55, 70), span(9, 9)],
            Timestamp(100),
        );
        assert_eq!(
            windows,
            Windows::Spans { spans: vec![span(0, 20), span(50, 70)], horizon: Timestamp(100) }
        );
    }

    #[test]
    fn the_end_of_a_span_is_closed_and_names_the_next_opening() {
        let windows = Windows::from_spans(vec![span(0, 20), span(50, 70)], Timestamp(100));
        assert_eq!(windows.at(Timestamp(0)), WindowState::Open(Some(Timestamp(20))));
        assert_eq!(windows.at(Timestamp(20)), WindowState::Closed(Some(Timestamp(50))));
        assert_eq!(windows.at(Timestamp(70)), WindowState::Closed(None));
    }
}

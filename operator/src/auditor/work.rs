//! Work that miners report as they end, in the termination message of their container.
//!
//! The record is [`daylight_agent_api::WorkRecord`]. The evidence `seen` counts only from an image
//! that the installation trusts: any image may write it.

use daylight_agent_api::{Evidence, Work, find_record};
use daylight_meter::Facts;

use crate::view::image_pattern::matches_pattern;

/// Returns the work in the termination message of a container of `image`, if there is a record that
/// can be read. `trusted_images` are patterns.
pub(super) fn reported(message: &str, image: &str, trusted_images: &[String]) -> Option<Facts> {
    let work: Work = serde_json::from_str(find_record(message)?).ok()?;
    let Work { version: _, shares_accepted, shares_rejected, hashes, evidence } = work;
    let seen = evidence == Evidence::Seen && is_trusted(image, trusted_images);
    Some(Facts { shares_accepted, shares_rejected, hashes, seen })
}

/// Returns `true` if an image matches one of the patterns of trusted images.
pub(super) fn is_trusted(image: &str, trusted_images: &[String]) -> bool {
    trusted_images.iter().any(|pattern| matches_pattern(image, pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "registry.example.com/daylight-miner:1";

    fn read(message: &str, image: &str) -> Option<(u64, u64, u64, bool)> {
        let trusted = ["registry.example.com/daylight-miner:*".to_owned()];
        let facts = reported(message, image, &trusted)?;
        Some((facts.shares_accepted, facts.shares_rejected, facts.hashes, facts.seen))
    }

    #[test]
    fn only_trusted_agents_are_believed_to_have_seen_it() {
        let message = r#"{"daylight.dev/work":"v1","sharesAccepted":"7","hashes":12,"evidence":"seen","reason":"Drained"}"#;
        assert_eq!(read(message, AGENT), Some((7, 0, 12, true)));
        assert_eq!(read(message, "registry.example.com/other:1"), Some((7, 0, 12, false)));
        let claimed = message.replace("seen", "claimed");
        assert_eq!(read(&claimed, AGENT), Some((7, 0, 12, false)));
    }

    #[test]
    fn other_lines_are_the_images_own() {
        let message =
            "engine: bye\n{\"daylight.dev/work\":\"v1\",\"sharesRejected\":\"3\"}\nlast words";
        assert_eq!(read(message, AGENT), Some((0, 3, 0, false)));
    }

    #[test]
    fn an_unreadable_record_counts_as_none() {
        for message in [
            "",
            "daylight.dev/work: 7",
            r#"{"daylight.dev/work":"v9","hashes":"1"}"#,
            r#"{"daylight.dev/work":"v1","hashes":"-1"}"#,
            r#"{"daylight.dev/work":"v1","hashes":1.5}"#,
            r#"{"daylight.dev/work":"v1","evidence":"notarised"}"#,
        ] {
            assert_eq!(read(message, AGENT), None, "{message}");
        }
    }
}

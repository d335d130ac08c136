//! What miners say of their work, in the termination message of their container: one line with
//!
//! ```json
//! {"daylight.dev/work":"v1","sharesAccepted":"118","sharesRejected":"2","hashes":"9000000000","evidence":"seen"}
//! ```
//!
//! Numbers are whole, as strings or as JSON has them; what is left out is 0. Other fields, and other
//! lines, are the image's own. `evidence` is `seen` where the agent itself stood between engine and
//! pool and saw the pool take the shares, else `claimed`; only images that the installation trusts
//! for it are believed.

use daylight_meter::Facts;
use serde::Deserialize;

use crate::view::image_pattern::matches_pattern;
use daylight_agent_api::find_record;

/// The version of the record.
const VERSION: &str = "v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(rename = "daylight.dev/work")]
    version: String,
    #[serde(default)]
    shares_accepted: Whole,
    #[serde(default)]
    shares_rejected: Whole,
    #[serde(default)]
    hashes: Whole,
    #[serde(default)]
    evidence: Evidence,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Evidence {
    Seen,
    #[default]
    Claimed,
}

/// A whole number, in either way of writing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Whole {
    Number(u64),
    Text(String),
}

impl Default for Whole {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Whole {
    fn value(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// What a container of `image` says of its work in its termination message, if it does and it can
/// be read. `agents` are the images, by patterns, whose agents are believed to have seen it.
pub(super) fn facts(message: &str, image: &str, agents: &[String]) -> Option<Facts> {
    let record: Record = serde_json::from_str(find_record(message)?).ok()?;
    if record.version != VERSION {
        return None;
    }
    let believed = agents.iter().any(|pattern| matches_pattern(image, pattern));
    Some(Facts {
        shares_accepted: record.shares_accepted.value()?,
        shares_rejected: record.shares_rejected.value()?,
        hashes: record.hashes.value()?,
        seen: believed && matches!(record.evidence, Evidence::Seen),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "registry.example.com/daylight-miner:1";

    fn read(message: &str, image: &str) -> Option<(u64, u64, u64, bool)> {
        let agents = ["registry.example.com/daylight-miner:*".to_owned()];
        let facts = facts(message, image, &agents)?;
        Some((facts.shares_accepted, facts.shares_rejected, facts.hashes, facts.seen))
    }

    #[test]
    fn only_trusted_agents_are_believed_to_have_seen_it() {
        let said = r#"{"daylight.dev/work":"v1","sharesAccepted":"7","hashes":12,"evidence":"seen","reason":"Drained"}"#;
        assert_eq!(read(said, AGENT), Some((7, 0, 12, true)));
        assert_eq!(read(said, "registry.example.com/other:1"), Some((7, 0, 12, false)));
        let claimed = said.replace("seen", "claimed");
        assert_eq!(read(&claimed, AGENT), Some((7, 0, 12, false)));
    }

    #[test]
    fn other_lines_are_the_images_own() {
        let said =
            "engine: bye\n{\"daylight.dev/work\":\"v1\",\"sharesRejected\":\"3\"}\nlast words";
        assert_eq!(read(said, AGENT), Some((0, 3, 0, false)));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        for said in [
            "",
            "daylight.dev/work: 7",
            r#"{"daylight.dev/work":"v9","hashes":"1"}"#,
            r#"{"daylight.dev/work":"v1","hashes":"-1"}"#,
            r#"{"daylight.dev/work":"v1","hashes":1.5}"#,
            r#"{"daylight.dev/work":"v1","evidence":"notarised"}"#,
        ] {
            assert_eq!(read(said, AGENT), None, "{said}");
        }
    }
}

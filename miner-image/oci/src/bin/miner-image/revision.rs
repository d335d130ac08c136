use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use crate::failure::{Result, wrong};
use crate::toolchain::output;

/// Which source this is. Where the folder differs from its commit nothing is said, so that an image
/// never claims a source that it was not built from.
#[derive(Debug, Default)]
pub(crate) struct Revision {
    pub(crate) commit: Option<String>,
    /// The commit's time, or what `SOURCE_DATE_EPOCH` says.
    pub(crate) created: Option<String>,
}

impl Revision {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let git = |arguments: &[&str]| {
            output(Command::new("git").arg("-C").arg(root).args(arguments)).ok()
        };
        let clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
        let mut revision = Self::default();
        let head = git(&["log", "-1", "--format=%H %ct"]).filter(|_| clean);
        if let Some((commit, seconds)) =
            head.as_deref().and_then(|head| head.trim().split_once(' '))
        {
            revision.commit = Some(commit.to_owned());
            revision.created = Some(time(seconds)?);
        }
        if let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") {
            revision.created = Some(time(&seconds)?);
        }
        Ok(revision)
    }
}

/// Seconds since 1970, as RFC 3339 writes them.
fn time(seconds: &str) -> Result<String> {
    let seconds = seconds.parse().map_err(wrong("SOURCE_DATE_EPOCH"))?;
    Ok(Timestamp::from_second(seconds).map_err(wrong("SOURCE_DATE_EPOCH"))?.to_string())
}

use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use super::error::{Error, Result};
use super::toolchain::output;

/// The commit that the image is built from. Empty where the folder differs from its commit, so that an
/// image never claims a source that it was not built from.
#[derive(Debug, Default)]
pub(super) struct Revision {
    pub(super) commit: Option<String>,
    /// The commit's time, unless `SOURCE_DATE_EPOCH` overrides it.
    pub(super) created: Option<String>,
}

impl Revision {
    pub(super) fn read(root: &Path) -> Result<Self> {
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

/// Formats seconds since 1970 by RFC 3339.
fn time(seconds: &str) -> Result<String> {
    let seconds = seconds.parse().map_err(Error::unreadable("SOURCE_DATE_EPOCH"))?;
    Ok(Timestamp::from_second(seconds).map_err(Error::unreadable("SOURCE_DATE_EPOCH"))?.to_string())
}

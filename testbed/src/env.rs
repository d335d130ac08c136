//! Environment variables that name files.

use std::path::PathBuf;

/// Returns the path that a variable holds, unless it is unset or empty.
pub(crate) fn env_path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

//! The output of a command: text for people, or JSON.

use std::io::{self, Write as _};

use clap::{Args, ValueEnum};
use daylight_cluster::names;
use kube::ResourceExt;
use serde::Serialize;

use super::error::CommandError;

/// The object as `NAMESPACE/NAME`.
pub(super) fn key_of(object: &impl ResourceExt) -> String {
    names::key(&object.namespace().unwrap_or_default(), &object.name_any())
}

/// The format in which a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text")]
    pub(super) format: Format,
}

impl Output {
    /// Prints `value` as JSON, or the text that `text` makes of it.
    pub(super) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CommandError> {
        let printed = match self.format {
            Format::Text => text(value),
            Format::Json => {
                let json = serde_json::to_string_pretty(value);
                json.map_err(|error| failed(error.into()))? + "\n"
            }
        };
        match io::stdout().write_all(printed.as_bytes()) {
            // The reader has enough, as with `| head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(failed),
        }
    }
}

/// The error for output that cannot be written.
pub(super) fn failed(error: io::Error) -> CommandError {
    CommandError::new("Cannot write the output").because(error)
}

//! What commands print: text for people, or JSON.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Failed;

/// How a command prints what it found.
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
    ) -> Result<(), Failed> {
        let printed = match self.format {
            Format::Text => text(value),
            Format::Json => {
                let json = serde_json::to_string_pretty(value);
                let json =
                    json.map_err(|error| Failed::new(format!("This is no JSON ({error}).")))?;
                format!("{json}\n")
            }
        };
        write_out(&printed)
    }
}

/// Writes to standard output. That nobody reads on, as with `| head`, is no failure.
fn write_out(text: &str) -> Result<(), Failed> {
    use std::io::Write as _;

    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failed::new(format!("The output cannot be written ({error}).")))
        }
        _ => Ok(()),
    }
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

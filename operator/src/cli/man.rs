//! `daylight man`: writes the man pages.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};

use super::error::CommandError;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Directory for the pages, which is created if it does not exist
    directory: PathBuf,
}

/// Writes a page for the program and one for each command.
pub(super) fn run(command: Command, flags: &Flags) -> Result<(), CommandError> {
    fs::create_dir_all(&flags.directory)
        .and_then(|()| clap_mangen::generate_to(command, &flags.directory))
        .map_err(|error| {
            let directory = flags.directory.display();
            CommandError::new(format!("Cannot write the man pages to {directory}")).because(error)
        })
}

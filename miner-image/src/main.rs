//! `daylight-miner`: the first process of a miner's container. It runs an engine, releases the device
//! in time, and leaves a record of the work. The manual is `docs/miner.md`.

mod adapters;
mod agent;
mod config;
mod engine;
mod fetch;
mod figures;
mod http;
mod lease;
mod log;
mod metrics;
mod pool;
mod process;
mod record;
mod secret;
mod status;
mod stop_requests;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use daylight_agent_api::{LastWords, Outcome, WorkRecord};

use crate::config::{Config, Flags, Mistake};
use crate::secret::Secrets;

#[derive(Parser)]
#[command(name = "daylight-miner", version, about = "Runs a mining engine and stops it in time")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the engine until a stop signal, or until the lease lapses
    Run(Flags),
    /// Check the configuration and explain each mistake; start nothing
    Check(Flags),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let is_error = error.use_stderr();
            return if is_error { end(Outcome::BadConfiguration) } else { ExitCode::SUCCESS };
        }
    };
    let (flags, run) = match &cli.command {
        Command::Run(flags) => (flags, true),
        Command::Check(flags) => (flags, false),
    };
    let (config, secrets) = match load(flags) {
        Ok(loaded) => loaded,
        Err(refusal) => {
            for mistake in &refusal.mistakes {
                eprintln!("{mistake}");
            }
            if run {
                refusal.write_record();
            }
            return end(refusal.outcome);
        }
    };
    if !run {
        println!("the configuration is valid; it runs {}", config.engine.display());
        return ExitCode::SUCCESS;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(agent::run(config, secrets));
            // Whatever still blocks a thread must not hold the exit, and with it the GPU.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => {
            eprintln!("the agent cannot start: {error}");
            Outcome::AgentFailed
        }
    };
    end(outcome)
}

fn end(outcome: Outcome) -> ExitCode {
    ExitCode::from(outcome.exit_code())
}

/// Reason that the agent does not start.
struct Refusal {
    outcome: Outcome,
    mistakes: Vec<Mistake>,
    /// File for the record.
    record: PathBuf,
}

impl Refusal {
    /// Writes it into the termination message.
    fn write_record(&self) {
        let sentences: Vec<String> = self.mistakes.iter().map(ToString::to_string).collect();
        let last_words =
            LastWords { reason: Some(self.outcome.to_string()), message: sentences.join("; ") };
        let record = WorkRecord { last_words, ..WorkRecord::default() };
        if let Err(error) = record::write(record, &self.record) {
            eprintln!("cannot write the record of work to {}: {error}", self.record.display());
        }
    }
}

/// Reads the configuration, and the secrets that it names.
fn load(flags: &Flags) -> Result<(Config, Secrets), Refusal> {
    let refused = |config: Config, mistakes| {
        let record = config.record.file;
        Err(Refusal { outcome: Outcome::BadConfiguration, mistakes, record })
    };
    let read = Config::read(&flags.config, flags.config_is_default());
    let (mut config, unread) = match read {
        Ok(config) => (config, Vec::new()),
        Err(mistakes) => (Config::default(), mistakes),
    };
    if let Err((place, sentence)) = config.overlay(flags) {
        return refused(config, vec![Mistake::new(place, sentence)]);
    }
    if !unread.is_empty() {
        return refused(config, unread);
    }
    let mut mistakes = config.mistakes();
    let secrets = Secrets::read(&config.pool).unwrap_or_else(|wrong| {
        mistakes.extend(wrong);
        Secrets::default()
    });
    mistakes.extend(secrets.exposed(&config));
    if !mistakes.is_empty() {
        return refused(config, mistakes);
    }
    match secrets.committed(&config.pool) {
        Ok(()) => Ok((config, secrets)),
        Err(wrong) => {
            let record = config.record.file;
            Err(Refusal { outcome: Outcome::WrongWallet, mistakes: vec![wrong], record })
        }
    }
}

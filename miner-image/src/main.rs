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

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use daylight_agent_api::{LastWords, Outcome, WorkRecord};

use crate::config::{Config, Flags, Mistake, RECORD};
use crate::secret::Secrets;
use crate::stop_requests::StopRequests;

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
    // Until there are handlers, the kernel would discard a signal to the first process of a container.
    let signals = StopRequests::hold_signals();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if !error.use_stderr() {
                return ExitCode::SUCCESS;
            }
            if std::env::args_os().nth(1).is_some_and(|command| command == "run") {
                unknown(&error).write_record();
            }
            return end(Outcome::BadConfiguration);
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
            let outcome = runtime.block_on(agent::run(config, secrets, signals));
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

/// Reads the command line. An empty variable counts as unset, as charts and templates leave them.
fn parse() -> Result<Cli, clap::Error> {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let without = |arg: Arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    let mut command = Cli::command();
    for name in ["run", "check"] {
        command = command.mut_subcommand(name, |command| command.mut_args(without));
    }
    Cli::from_arg_matches(&command.try_get_matches()?)
}

/// Says which flag or variable cannot be read, without its value: that may be a secret.
fn unknown(error: &clap::Error) -> Refusal {
    let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let sentence = match error.kind() {
        ErrorKind::UnknownArgument => "there is no such flag: see daylight-miner run --help",
        _ => "it cannot be read: see daylight-miner run --help for its form and its variable",
    };
    let place = if flag.is_empty() { "command line".to_owned() } else { flag };
    Refusal {
        outcome: Outcome::BadConfiguration,
        mistakes: vec![Mistake::new(place, sentence)],
        record: std::env::var_os(RECORD).map_or(Config::default().record.file, PathBuf::from),
    }
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

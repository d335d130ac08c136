//! The command line: `daylight …`, and `kubectl daylight …` where the binary is on the path as
//! `kubectl-daylight`.

mod approval;
mod auditor;
mod commitment;
mod completion;
mod connect;
mod controller;
mod doctor;
mod emergency;
mod error;
mod filing;
mod gpu_map;
mod ledger;
mod live_plan;
mod man;
mod output;
mod own_objects;
#[cfg(test)]
mod reference;
mod release;
mod review;
mod serve;
mod status;
mod table;
mod why;
mod witness;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::connect::Connection;
use self::error::{CommandError, ErrorCode};
use self::output::Format;

/// Daylight gives AI jobs every GPU they request and fills the rest with registered miners.
#[derive(Debug, Parser)]
#[command(name = "daylight", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller: decide which GPUs mine, start and stop miners, start AI jobs
    Controller(Box<controller::Flags>),
    /// Run the auditor: record who holds which GPU, meter its energy, keep the journal
    Auditor(Box<auditor::Flags>),
    /// Run a witness: cosign the checkpoints of ledgers that only grow
    Witness(Box<witness::Flags>),
    /// Show pools, who holds GPUs, what waits and why, and a map of the GPUs
    Status(status::Flags),
    /// Explain the state of a pool, class, registration, miner, AI job or pod
    Why(why::Flags),
    /// Approve a registration as it is now
    Approve(approval::Approve),
    /// Reject a registration
    Reject(approval::Decide),
    /// Suspend a registration until it is approved again
    Suspend(approval::Decide),
    /// Revoke a registration permanently
    Revoke(approval::Decide),
    /// Record that a declaration was filed with the authority
    File(filing::File),
    /// Emergency stop: end all mining until `resume`
    Stop(emergency::Stop),
    /// Lift the emergency stop
    Resume(emergency::Resume),
    /// Check an installation against the security model, and list what cannot be checked
    Doctor(doctor::Flags),
    /// Verify, prove and copy the auditor's ledger
    Ledger(Box<ledger::Ledger>),
    /// Write what a registration or a site did in a period, as files for an authority
    Report(Box<ledger::report::Flags>),
    /// Print, or write with proofs, what an AI job used
    Receipt(Box<ledger::receipt::Flags>),
    /// Commit to official identifiers with a salt, and write the Secret that can open the commitments
    Commit(commitment::Commit),
    /// Show which identifiers a Secret has, and that they are those of commitments
    Open(commitment::Open),
    /// Remove the auditor's finalizer from pods left behind by an uninstall
    Release(release::Release),
    /// Print a shell's completion script
    Completion(completion::Flags),
    /// Write man pages
    Man(man::Flags),
}

/// Runs the command that `arguments` name, and returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if program(&arguments) == Some(completion::KUBECTL_NAME) {
        return match completion::answer_kubectl(Cli::command(), arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let format = cli.command.format();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match format {
                Format::Text => eprintln!("Error: {}", error.report()),
                Format::Json => eprintln!("{}", error.json()),
            }
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// The format of the command's output, and of its error.
    fn format(&self) -> Format {
        match self {
            Self::Controller(_)
            | Self::Auditor(_)
            | Self::Witness(_)
            | Self::Completion(_)
            | Self::Man(_) => Format::Text,
            Self::Status(flags) => flags.output.format,
            Self::Why(flags) => flags.output.format,
            Self::Approve(flags) => flags.output.format,
            Self::Reject(flags) | Self::Suspend(flags) | Self::Revoke(flags) => flags.output.format,
            Self::File(flags) => flags.output.format,
            Self::Stop(flags) => flags.output.format,
            Self::Resume(flags) => flags.output.format,
            Self::Doctor(flags) => flags.output.format,
            Self::Ledger(ledger) => ledger.format(),
            Self::Report(flags) => flags.output_format(),
            Self::Receipt(flags) => flags.output_format(),
            Self::Commit(flags) => flags.output.format,
            Self::Open(flags) => flags.output.format,
            Self::Release(flags) => flags.output.format,
        }
    }

    /// Returns `true` if the command acts on objects in a namespace.
    fn is_namespaced(&self) -> bool {
        match self {
            Self::Status(_)
            | Self::Why(_)
            | Self::Approve(_)
            | Self::Reject(_)
            | Self::Suspend(_)
            | Self::Revoke(_)
            | Self::File(_)
            | Self::Receipt(_)
            | Self::Commit(_) => true,
            Self::Controller(_)
            | Self::Auditor(_)
            | Self::Stop(_)
            | Self::Resume(_)
            | Self::Doctor(_)
            | Self::Ledger(_)
            | Self::Report(_)
            | Self::Open(_)
            | Self::Witness(_)
            | Self::Release(_)
            | Self::Completion(_)
            | Self::Man(_) => false,
        }
    }
}

/// Returns the name by which the program was called.
fn program(arguments: &[OsString]) -> Option<&str> {
    Path::new(arguments.first()?).file_stem()?.to_str()
}

/// Parses the command line. Usage and errors name the program as the user called it, which for a plugin
/// is `kubectl daylight`.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if matches!(program(arguments), Some("kubectl-daylight" | "kubectl_daylight")) {
        command = command.name("kubectl-daylight").bin_name("kubectl daylight");
    }
    let mut matches = command.try_get_matches_from(arguments)?;
    Cli::from_arg_matches_mut(&mut matches)
}

fn run(cli: Cli) -> Result<(), CommandError> {
    let serves =
        matches!(cli.command, Command::Controller(_) | Command::Auditor(_) | Command::Witness(_));
    crate::logs::start(serves);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4))
        .enable_all()
        .build()
        .map_err(|error| CommandError::new("Cannot start the process's threads").because(error))?;
    let done = runtime.block_on(dispatch(cli));
    // Dropping the runtime would wait for blocking tasks, however long they take.
    runtime.shutdown_background();
    done
}

async fn dispatch(cli: Cli) -> Result<(), CommandError> {
    let connection = cli.connection;
    // A stop of "one namespace" would stop all mining.
    if connection.work_namespace.is_some() && !cli.command.is_namespaced() {
        return Err(CommandError::new("This command concerns the whole site, not one namespace")
            .code(ErrorCode::Invalid)
            .remedy("Leave out --namespace; --daylight-namespace names Daylight's own"));
    }
    match cli.command {
        Command::Controller(flags) => Box::pin(controller::run(&connection, *flags)).await,
        Command::Auditor(flags) => Box::pin(auditor::run(&connection, *flags)).await,
        Command::Witness(flags) => witness::run(*flags).await,
        Command::Status(flags) => status::run(&connection, &flags).await,
        Command::Why(flags) => why::run(&connection, &flags).await,
        Command::Approve(flags) => approval::approve(&connection, &flags).await,
        Command::Reject(flags) => approval::reject(&connection, &flags).await,
        Command::Suspend(flags) => approval::suspend(&connection, &flags).await,
        Command::Revoke(flags) => approval::revoke(&connection, &flags).await,
        Command::File(flags) => filing::file(&connection, &flags).await,
        Command::Stop(flags) => emergency::stop(&connection, &flags).await,
        Command::Resume(flags) => emergency::resume(&connection, &flags).await,
        Command::Doctor(flags) => doctor::run(&connection, &flags).await,
        Command::Ledger(ledger) => ledger::run(&ledger),
        Command::Report(flags) => ledger::report::run(&flags),
        Command::Receipt(flags) => ledger::receipt::run(&connection, &flags).await,
        Command::Commit(flags) => commitment::commit(connection.work_namespace.as_deref(), &flags),
        Command::Open(flags) => commitment::open(&flags),
        Command::Release(flags) => release::release(&connection, &flags).await,
        Command::Completion(flags) => completion::run(Cli::command(), &flags),
        Command::Man(flags) => man::run(Cli::command(), &flags),
    }
}

#[cfg(test)]
mod tests {
    use super::output::Format;
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_is_described() {
        let command = Cli::command();
        for command in command.get_subcommands().chain([&command]) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
        }
    }

    #[test]
    fn a_plugin_names_itself_as_it_was_called() {
        let error = parse(&arguments("/usr/bin/kubectl-daylight stop")).unwrap_err();
        assert!(error.to_string().contains("Usage: kubectl daylight stop"), "{error}");
        let error = parse(&arguments("daylight stop")).unwrap_err();
        assert!(error.to_string().contains("Usage: daylight stop"), "{error}");
    }

    #[test]
    fn every_flag_of_a_serving_command_has_a_variable() {
        let command = Cli::command();
        let serving = ["controller", "auditor"].map(|name| command.find_subcommand(name).unwrap());
        for argument in serving.into_iter().flat_map(clap::Command::get_arguments) {
            let id = argument.get_id().as_str();
            if id == "help" || id == "version" {
                continue;
            }
            let variable = argument.get_env().and_then(|name| name.to_str());
            let expected = format!("DAYLIGHT_{}", id.to_uppercase());
            assert_eq!(variable, Some(expected.as_str()), "--{id}");
        }
    }

    #[tokio::test]
    async fn a_command_for_the_whole_site_refuses_a_namespace() {
        let cli = parse(&arguments("daylight stop -n team-a -m smoke -o json")).unwrap();
        assert_eq!(cli.command.format(), Format::Json);
        let error = dispatch(cli).await.unwrap_err();
        assert!(error.report().contains("whole site"), "{}", error.report());
    }

    #[test]
    fn users_are_impersonated_with_their_groups_as_in_kubectl() {
        let line = "daylight status --as ann --as-group dev --as-group ops --as-uid 7";
        assert!(parse(&arguments(line)).is_ok());
        let error = parse(&arguments("daylight status --as-group dev")).unwrap_err();
        assert!(error.to_string().contains("--as <USER>"), "{error}");
    }

    #[test]
    fn output_is_chosen_as_in_kubectl() {
        let cli = parse(&arguments("daylight status -o json")).unwrap();
        let Command::Status(flags) = cli.command else { panic!("not status") };
        assert_eq!(flags.output.format, Format::Json);
    }
}

//! The environment and the command line, which count more than the file.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use daylight_agent_api::env as api;

use super::{Config, EngineName, Lease, Protocol, RandomxMode, read};

/// Where the configuration is looked for when nobody says.
const DEFAULT_FILE: &str = "/etc/daylight-miner/miner.toml";

/// What can be said without a file. The names without `DAYLIGHT_MINER_` are those that Daylight
/// sets in the pods it makes.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// The configuration file
    #[arg(long, env = api::CONFIG, default_value = DEFAULT_FILE, hide_env_values = true)]
    pub(crate) config: PathBuf,

    /// The engine (`engine.name`)
    #[arg(long, env = api::ENGINE, hide_env_values = true)]
    engine: Option<String>,

    /// The algorithm (`engine.algorithm`)
    #[arg(long, env = api::ALGORITHM, hide_env_values = true)]
    algorithm: Option<String>,

    /// Pools in the order of preference, separated by commas (`pool.endpoints`)
    #[arg(long, env = api::POOL_ENDPOINTS, value_delimiter = ',', hide_env_values = true)]
    pool: Vec<String>,

    /// How many threads of a built-in engine hash (`engine.threads`)
    #[arg(long, env = "THREADS", hide_env_values = true)]
    threads: Option<NonZeroUsize>,

    /// How much memory RandomX takes, light or fast (`engine.mode`)
    #[arg(long, env = "RANDOMX_MODE", hide_env_values = true)]
    mode: Option<String>,

    /// Whether RandomX uses huge pages (`engine.huge_pages`)
    #[arg(long, env = api::HUGE_PAGES, hide_env_values = true, num_args = 0..=1, default_missing_value = "true")]
    huge_pages: Option<bool>,

    /// SHA-256 of the pools' certificates as HOST:PORT=HEX, separated by commas (`pool.pins`)
    #[arg(long = "pin", env = api::POOL_PINS, value_delimiter = ',', hide_env_values = true)]
    pins: Vec<String>,

    /// What the agent speaks between engine and pool (`pool.protocol`)
    #[arg(long, env = "POOL_PROTOCOL", hide_env_values = true)]
    protocol: Option<String>,

    /// What the wallet has to be (`pool.wallet_commitment`)
    #[arg(long, env = api::WALLET_COMMITMENT, hide_env_values = true)]
    wallet_commitment: Option<String>,

    /// The file with the salt of that (`pool.wallet_salt_file`)
    #[arg(long, env = api::WALLET_SALT_FILE, hide_env_values = true)]
    wallet_salt_file: Option<PathBuf>,

    /// What the pool calls this worker (`pool.worker`)
    #[arg(long, env = api::POD_NAME, hide_env_values = true)]
    worker: Option<String>,

    /// The file with the wallet (`pool.wallet_file`)
    #[arg(long, env = api::WALLET_FILE, hide_env_values = true)]
    wallet_file: Option<PathBuf>,

    /// The file with the pool's password (`pool.password_file`)
    #[arg(long, env = api::POOL_PASSWORD_FILE, hide_env_values = true)]
    password_file: Option<PathBuf>,

    /// The pod's grace period in seconds (`drain.grace`)
    #[arg(long, env = api::DRAIN_SECONDS, hide_env_values = true)]
    drain_seconds: Option<u32>,

    /// How many seconds the lease lasts without a renewal (`lease.lapses_after`)
    #[arg(long, env = api::LEASE_SECONDS, hide_env_values = true)]
    lease_seconds: Option<u32>,

    /// Where the agent answers (`http.listen`)
    #[arg(long, env = api::LISTEN, hide_env_values = true)]
    listen: Option<String>,

    /// Where the record of work is left (`record.file`)
    #[arg(long, env = "DAYLIGHT_MINER_RECORD", hide_env_values = true)]
    record: Option<PathBuf>,

    /// The engine's command, instead of the configured one (`engine.command`); what begins with an
    /// option is further arguments for the configured one (`engine.args`)
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Flags {
    /// Whether the file need not be there.
    pub(crate) fn config_is_default(&self) -> bool {
        self.config.as_os_str() == DEFAULT_FILE
    }
}

impl Config {
    /// Puts what `flags` say over what the file says.
    ///
    /// # Errors
    ///
    /// The place and the reason where a value cannot be taken.
    pub(crate) fn overlay(&mut self, flags: &Flags) -> Result<(), (&'static str, String)> {
        if let Some(record) = &flags.record {
            self.record.file.clone_from(record);
        }
        if let Some(name) = &flags.engine {
            self.engine.name =
                read::word::<EngineName>(name).map_err(|says| (api::ENGINE, says))?;
        }
        let words: Option<Vec<String>> =
            flags.command.iter().map(|word| word.to_str().map(str::to_owned)).collect();
        match words.ok_or_else(|| ("command line", "the command must be UTF-8".to_owned()))? {
            words if words.first().is_some_and(|word| word.starts_with('-')) => {
                self.engine.args.extend(words);
            }
            words if !words.is_empty() => self.engine.command = words,
            _ => {}
        }
        if let Some(mode) = &flags.mode {
            let mode = read::word::<RandomxMode>(mode);
            self.engine.mode = mode.map_err(|says| ("RANDOMX_MODE", says))?;
        }
        if let Some(huge_pages) = flags.huge_pages {
            self.engine.huge_pages = huge_pages;
        }
        if let Some(protocol) = &flags.protocol {
            let protocol = read::word::<Protocol>(protocol);
            self.pool.protocol = Some(protocol.map_err(|says| ("POOL_PROTOCOL", says))?);
        }
        for pin in &flags.pins {
            let (pool, pin) = pin
                .split_once('=')
                .ok_or_else(|| (api::POOL_PINS, format!("\"{pin}\": write HOST:PORT=HEX")))?;
            self.pool.pins.insert(pool.into(), pin.into());
        }
        set(&mut self.engine.threads, flags.threads.as_ref());
        set(&mut self.pool.wallet_commitment, flags.wallet_commitment.as_ref());
        set(&mut self.pool.wallet_salt_file, flags.wallet_salt_file.as_ref());
        set(&mut self.engine.algorithm, flags.algorithm.as_ref());
        set(&mut self.pool.wallet_file, flags.wallet_file.as_ref());
        set(&mut self.pool.password_file, flags.password_file.as_ref());
        if self.pool.worker.is_none() {
            self.pool.worker.clone_from(&flags.worker);
        }
        if !flags.pool.is_empty() {
            self.pool.endpoints.clone_from(&flags.pool);
        }
        if let Some(seconds) = flags.drain_seconds {
            self.drain.grace = Duration::from_secs(seconds.into());
        }
        if let Some(seconds) = flags.lease_seconds {
            let file = self.lease.take().and_then(|lease| lease.file);
            let lapses_after = Duration::from_secs(seconds.into());
            self.lease = Some(Lease { file, lapses_after });
        }
        if let Some(listen) = &flags.listen {
            self.http.listen.clone_from(listen);
        }
        Ok(())
    }
}

fn set<T: Clone>(field: &mut Option<T>, said: Option<&T>) {
    if let Some(said) = said {
        *field = Some(said.clone());
    }
}

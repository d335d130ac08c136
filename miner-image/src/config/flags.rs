//! Environment variables and flags, which override the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use daylight_agent_api::env as api;

use super::{Config, EngineName, Lease, Pins, Protocol, RandomxMode, read};

/// The configuration file, unless another is named.
const DEFAULT_FILE: &str = "/etc/daylight-miner/miner.toml";

/// Variable of the record's file.
pub(crate) const RECORD: &str = "DAYLIGHT_MINER_RECORD";

/// Settings that need no file. Variables without the prefix `DAYLIGHT_MINER_` are those that Daylight
/// sets for every miner's image.
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// Configuration file
    #[arg(long, env = api::CONFIG, default_value = DEFAULT_FILE, hide_env_values = true)]
    pub(crate) config: PathBuf,

    /// Name of the engine (`engine.name`)
    #[arg(long, env = api::ENGINE, hide_env_values = true)]
    engine: Option<String>,

    /// Algorithm, as the engine spells it (`engine.algorithm`)
    #[arg(long, env = api::ALGORITHM, hide_env_values = true)]
    algorithm: Option<String>,

    /// Mining pools in order of preference, separated by commas (`pool.endpoints`)
    #[arg(long, env = api::POOL_ENDPOINTS, value_delimiter = ',', hide_env_values = true)]
    pool: Vec<String>,

    /// Threads of a built-in engine or of xmrig (`engine.threads`)
    #[arg(long, env = "THREADS", hide_env_values = true)]
    threads: Option<NonZeroUsize>,

    /// Memory of RandomX: light (256 MiB) or fast (2336 MiB) (`engine.mode`)
    #[arg(long, env = "RANDOMX_MODE", hide_env_values = true)]
    mode: Option<String>,

    /// Use huge pages for RandomX (`engine.huge_pages`)
    #[arg(long, env = api::HUGE_PAGES, hide_env_values = true, num_args = 0..=1, default_missing_value = "true")]
    huge_pages: Option<bool>,

    /// SHA-256 of the pools' certificates or public keys as HOST:PORT=HEX, separated by commas; a
    /// pool may have several (`pool.pins`)
    #[arg(long = "pin", env = api::POOL_PINS, value_delimiter = ',', hide_env_values = true)]
    pins: Vec<String>,

    /// Protocol of the pool, if the agent is to log in for the engine: stratum-v1, monero,
    /// ethereum-stratum, ethproxy, kawpow or none (`pool.protocol`)
    #[arg(long, env = "POOL_PROTOCOL", hide_env_values = true)]
    protocol: Option<String>,

    /// Commitment that the wallet must match, as sha256:HEX (`pool.wallet_commitment`)
    #[arg(long, env = api::WALLET_COMMITMENT, hide_env_values = true)]
    wallet_commitment: Option<String>,

    /// File with the salt of the commitment (`pool.wallet_salt_file`)
    #[arg(long, env = api::WALLET_SALT_FILE, hide_env_values = true)]
    wallet_salt_file: Option<PathBuf>,

    /// Name of this worker at the pool, unless the file has one (`pool.worker`)
    #[arg(long, env = api::POD_NAME, hide_env_values = true)]
    worker: Option<String>,

    /// File with the wallet (`pool.wallet_file`)
    #[arg(long, env = api::WALLET_FILE, hide_env_values = true)]
    wallet_file: Option<PathBuf>,

    /// File with the pool's password (`pool.password_file`)
    #[arg(long, env = api::POOL_PASSWORD_FILE, hide_env_values = true)]
    password_file: Option<PathBuf>,

    /// Grace period of the pod, in seconds (`drain.grace`)
    #[arg(long, env = api::DRAIN_SECONDS, hide_env_values = true)]
    drain_seconds: Option<u32>,

    /// Seconds without a renewal after which the lease lapses (`lease.lapses_after`)
    #[arg(long, env = api::LEASE_SECONDS, hide_env_values = true)]
    lease_seconds: Option<u32>,

    /// Address to listen on: ADDRESS:PORT, or pod:PORT for the pod's own (`http.listen`)
    #[arg(long, env = api::LISTEN, hide_env_values = true)]
    listen: Option<String>,

    /// File for the record of work (`record.file`)
    #[arg(long, env = RECORD, hide_env_values = true)]
    record: Option<PathBuf>,

    /// Command of the engine (`engine.command`). If it begins with an option, it is added to the
    /// configured command (`engine.args`)
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Flags {
    /// Whether the file is the default one, which need not exist.
    pub(crate) fn config_is_default(&self) -> bool {
        self.config.as_os_str() == DEFAULT_FILE
    }
}

impl Config {
    /// Overrides the file's settings with those of `flags`.
    ///
    /// # Errors
    ///
    /// Where a value is wrong, and why.
    pub(crate) fn overlay(&mut self, flags: &Flags) -> Result<(), (&'static str, String)> {
        // First, so that a mistake in what follows is recorded in the right file.
        if let Some(record) = &flags.record {
            self.record.file.clone_from(record);
        }
        if let Some(name) = &flags.engine {
            self.engine.name =
                read::word::<EngineName>(name).map_err(|error| (api::ENGINE, error))?;
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
            self.engine.mode = Some(mode.map_err(|error| ("RANDOMX_MODE", error))?);
        }
        if let Some(huge_pages) = flags.huge_pages {
            self.engine.huge_pages = huge_pages;
        }
        if let Some(protocol) = &flags.protocol {
            let protocol = read::word::<Protocol>(protocol);
            self.pool.protocol = Some(protocol.map_err(|error| ("POOL_PROTOCOL", error))?);
        }
        let mut pins = BTreeMap::<String, Vec<String>>::new();
        for pin in flags.pins.iter().map(|pin| pin.trim()).filter(|pin| !pin.is_empty()) {
            let (pool, pin) = pin
                .split_once('=')
                .ok_or_else(|| (api::POOL_PINS, format!("\"{pin}\": write HOST:PORT=HEX")))?;
            pins.entry(pool.into()).or_default().push(pin.into());
        }
        self.pool.pins.extend(pins.into_iter().map(|(pool, pins)| (pool, Pins::Several(pins))));
        set(&mut self.engine.threads, flags.threads.as_ref());
        set(&mut self.pool.wallet_commitment, flags.wallet_commitment.as_ref());
        set(&mut self.pool.wallet_salt_file, flags.wallet_salt_file.as_ref());
        set(&mut self.engine.algorithm, flags.algorithm.as_ref());
        set(&mut self.pool.wallet_file, flags.wallet_file.as_ref());
        set(&mut self.pool.password_file, flags.password_file.as_ref());
        if self.pool.worker.is_none() {
            self.pool.worker.clone_from(&flags.worker);
        }
        let pools = flags.pool.iter().map(|pool| pool.trim()).filter(|pool| !pool.is_empty());
        let pools: Vec<String> = pools.map(str::to_owned).collect();
        if !pools.is_empty() {
            self.pool.endpoints = pools;
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

fn set<T: Clone>(field: &mut Option<T>, value: Option<&T>) {
    if let Some(value) = value {
        *field = Some(value.clone());
    }
}

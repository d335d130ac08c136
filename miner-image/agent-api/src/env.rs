//! Environment variables that the operator sets in a miner's container.

/// Path of the agent's configuration file.
pub const CONFIG: &str = "DAYLIGHT_MINER_CONFIG";

/// Name of the engine: `engine.name`.
pub const ENGINE: &str = "ENGINE";

/// Algorithm in the engine's own spelling: `engine.algorithm`.
pub const ALGORITHM: &str = "ALGORITHM";

/// Mining pools in order of preference, separated by commas: `pool.endpoints`.
pub const POOL_ENDPOINTS: &str = "POOL_ENDPOINTS";

/// SHA-256 of the pools' certificates as `HOST:PORT=HEX`, separated by commas: `pool.pins`.
pub const POOL_PINS: &str = "POOL_PINS";

/// Path of the file with the pool's password: `pool.password_file`.
pub const POOL_PASSWORD_FILE: &str = "POOL_PASSWORD_FILE";

/// Path of the file with the wallet: `pool.wallet_file`.
pub const WALLET_FILE: &str = "WALLET_FILE";

/// Path of the file with the salt of [`WALLET_COMMITMENT`]: `pool.wallet_salt_file`.
pub const WALLET_SALT_FILE: &str = "WALLET_SALT_FILE";

/// Commitment that the wallet must match, `sha256:HEX`: `pool.wallet_commitment`.
pub const WALLET_COMMITMENT: &str = "WALLET_COMMITMENT";

/// Whether the engine uses huge pages, `true` or `false`: `engine.huge_pages`.
pub const HUGE_PAGES: &str = "HUGE_PAGES";

/// The pod's grace period in whole seconds: `drain.grace`.
pub const DRAIN_SECONDS: &str = "DRAIN_SECONDS";

/// Lifetime of the lease without a renewal, in whole seconds: `lease.lapses_after`.
pub const LEASE_SECONDS: &str = "DAYLIGHT_LEASE_SECONDS";

/// Address to listen on: `http.listen`. Either `ADDRESS:PORT`, or [`POD_ADDRESS`] and a port.
pub const LISTEN: &str = "DAYLIGHT_MINER_LISTEN";

/// Stands for the pod's own address at the start of [`LISTEN`].
pub const POD_ADDRESS: &str = "pod:";

/// Name of the pod, which the agent uses as the worker's name: `pool.worker`.
pub const POD_NAME: &str = "POD_NAME";

/// Name of the pod's node. For engines; the agent does not read it.
pub const NODE_NAME: &str = "NODE_NAME";

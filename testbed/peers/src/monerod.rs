//! A node of Monero.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use daylight_testbed::Scratch;
use serde_json::json;

use crate::daemon::{Daemon, free_port, on_a_free_port};
use crate::error::{Error, Result};
use crate::rpc::Rpc;

const NODE: &str = "monerod";

/// monerod, Monero's own node, on a private regtest chain: offline, and with a fixed difficulty.
/// `RandomX` is its proof of work from the first block on. Dropping it ends it.
#[derive(Debug)]
pub struct Monerod {
    daemon: Option<Daemon>,
    program: PathBuf,
    difficulty: NonZeroU64,
    port: u16,
    /// Port for notices of blocks and transactions.
    notices: Option<u16>,
    rpc: Rpc,
    /// Last, so that it is removed after the process has ended.
    scratch: Scratch,
}

impl Monerod {
    /// Address that blocks pay. It has no owner: its public keys (spend, view) are Ed25519's for the secret
    /// keys of 32 bytes each of 1 and 2. Regtest has the main network's addresses.
    pub const WALLET: &str = "46sbjLePy5AS661uYrLQyALCcYxowD9Cu5gAGAypsXHQGUQutGCMPqpGwuKysfXp7wbFmcsPgcxX8UAAVUVWWMUnHo6sZ7Z";

    /// Starts a node on which a block takes `difficulty` hashes on average, and waits until it answers.
    pub async fn start(difficulty: NonZeroU64) -> Result<Self> {
        let program = find().ok_or(Error::Missing { program: NODE, package: "monero" })?;
        on_a_free_port(|| Self::start_once(program.clone(), difficulty, None)).await
    }

    /// Does the same for programs that follow the chain by the node's notices (`ZeroMQ`).
    pub async fn start_with_notices(difficulty: NonZeroU64) -> Result<Self> {
        let program = find().ok_or(Error::Missing { program: NODE, package: "monero" })?;
        let start =
            || async { Self::start_once(program.clone(), difficulty, Some(free_port()?)).await };
        on_a_free_port(start).await
    }

    async fn start_once(
        program: PathBuf,
        difficulty: NonZeroU64,
        notices: Option<u16>,
    ) -> Result<Self> {
        let port = free_port()?;
        let rpc = Rpc::new(NODE, format!("http://127.0.0.1:{port}/json_rpc"), None);
        let scratch = Scratch::new()?;
        let mut node = Self { daemon: None, program, difficulty, port, notices, rpc, scratch };
        node.launch().await?;
        Ok(node)
    }

    /// Restarts it on the same port, with the same chain.
    pub async fn restart(&mut self) -> Result<()> {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().await;
        }
        self.launch().await
    }

    async fn launch(&mut self) -> Result<()> {
        let home = self.scratch.path();
        let place = |name: &str| home.join(name).display().to_string();
        let arguments = [
            "--regtest".to_owned(),
            "--keep-fakechain".to_owned(),
            "--offline".to_owned(),
            format!("--fixed-difficulty={}", self.difficulty),
            "--rpc-bind-ip=127.0.0.1".to_owned(),
            format!("--rpc-bind-port={}", self.port),
            // It would ban a bridge that forwards wrong shares.
            "--disable-rpc-ban".to_owned(),
            match self.notices {
                Some(port) => format!("--zmq-pub=tcp://127.0.0.1:{port}"),
                None => "--no-zmq".to_owned(),
            },
            "--no-igd".to_owned(),
            "--non-interactive".to_owned(),
            format!("--data-dir={}", place("chain")),
            format!("--log-file={}", place("monerod.details")),
        ];
        let mut daemon = Daemon::start(NODE, &self.program, &arguments, home)?;
        daemon.ready(&self.rpc, "get_info").await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Returns the port of its RPC on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port of its notices, if it was started with them.
    pub fn notices(&self) -> Option<u16> {
        self.notices
    }

    /// Returns its JSON-RPC.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Returns the number of blocks in its chain, which is one more than the height of the last.
    pub async fn blocks(&self) -> Result<u64> {
        let info = self.rpc.call("get_info", json!({})).await?;
        info["height"].as_u64().ok_or_else(|| self.rpc.unreadable("get_info", "no height"))
    }
}

fn find() -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory: PathBuf| directory.join(NODE))
        .find(|path: &PathBuf| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes base 58 as Monero uses it: each 11 digits are 8 bytes, the last 7 are 5.
    fn decode(address: &str) -> Vec<u8> {
        let digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        let blocks = address.as_bytes().chunks(11).map(|block| {
            let value = block.iter().fold(0_u128, |value, digit| {
                value * 58 + digits.find(char::from(*digit)).unwrap() as u128
            });
            let size = if block.len() == 11 { 8 } else { 5 };
            value.to_be_bytes()[16 - size..].to_vec()
        });
        blocks.collect::<Vec<_>>().concat()
    }

    #[test]
    fn the_wallet_is_made_of_the_keys_that_its_documentation_names() {
        let key = |byte| {
            ed25519_dalek::SigningKey::from_bytes(&[byte; 32]).verifying_key().to_bytes().to_vec()
        };
        let address = decode(Monerod::WALLET);
        assert_eq!(address[..65], [vec![18], key(1), key(2)].concat());
        assert_eq!(address.len(), 69);
    }
}

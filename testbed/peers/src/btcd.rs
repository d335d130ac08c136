//! A node of Bitcoin.

use std::path::{Path, PathBuf};

use daylight_testbed::{GoProgram, Scratch};
use serde_json::json;

use crate::daemon::{Daemon, free_port, on_a_free_port};
use crate::error::{Error, Result};
use crate::rpc::Rpc;

const NODE: &str = "btcd";

/// btcd, a full node of Bitcoin, on a private regtest chain: without peers, and with a target that
/// every second hash reaches. Dropping it ends it.
///
/// getblocktemplate answers at once, since btcd does not wait for a peer on regtest. It leaves an empty
/// directory `.btcd` in the user's home, whatever its flags.
#[derive(Debug)]
pub struct Btcd {
    /// None only while it restarts, or after that has failed.
    daemon: Option<Daemon>,
    program: PathBuf,
    port: u16,
    user: String,
    password: String,
    rpc: Rpc,
    /// Last, so that it is removed after the process has ended.
    scratch: Scratch,
}

impl Btcd {
    /// Builds btcd unless it is in the cache, for callers without a network later. Blocks.
    pub fn build() -> Result<()> {
        build().map(drop)
    }

    /// Starts a node, and waits until it answers. The first start on a machine builds btcd, which takes
    /// about a minute on two cores.
    pub async fn start() -> Result<Self> {
        let program = tokio::task::spawn_blocking(build)
            .await
            .map_err(|error| Error::io("building btcd")(std::io::Error::other(error)))??;
        on_a_free_port(|| Self::start_once(program.clone())).await
    }

    async fn start_once(program: PathBuf) -> Result<Self> {
        let (user, password) = (secret(), secret());
        let port = free_port()?;
        let rpc = Rpc::new(NODE, format!("http://127.0.0.1:{port}/"), Some((&user, &password)));
        let scratch = Scratch::new()?;
        let mut node = Self { daemon: None, program, port, user, password, rpc, scratch };
        node.launch().await?;
        Ok(node)
    }

    /// Restarts it on the same port. On regtest, btcd loses its chain then.
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
            format!("--datadir={}", place("chain")),
            format!("--logdir={}", place("logs")),
            format!("--rpclisten=127.0.0.1:{}", self.port),
            "--notls".to_owned(),
            format!("--rpcuser={}", self.user),
            format!("--rpcpass={}", self.password),
            format!("--miningaddr={UNUSED_ADDRESS}"),
            "--nolisten".to_owned(),
            "--nodnsseed".to_owned(),
            "--nocfilters".to_owned(),
            // Allocated at the start; the default is 250 MiB.
            "--utxocachemaxsize=16".to_owned(),
        ];
        let mut daemon = Daemon::start(NODE, &self.program, &arguments, home)?;
        daemon.ready(&self.rpc, "getblockcount").await?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Returns its JSON-RPC.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Returns the height of its chain.
    pub async fn height(&self) -> Result<u64> {
        self.rpc.read("getblockcount", json!([])).await
    }

    /// Returns the hash of the block at the top of its chain, with the last byte first, as Bitcoin's
    /// programs write it.
    pub async fn best_block(&self) -> Result<String> {
        self.rpc.read("getbestblockhash", json!([])).await
    }
}

/// btcd needs an address to make templates, and puts it into coinbases that a bridge does not use. The
/// hash in this one is all zeros.
const UNUSED_ADDRESS: &str = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8";

fn build() -> Result<PathBuf> {
    let program = GoProgram {
        name: NODE,
        title: "btcd",
        sources: Path::new(env!("CARGO_MANIFEST_DIR")).join("btcd"),
        package: "github.com/btcsuite/btcd",
        linker_flags: "-s -w".into(),
        takes: Some("about a minute"),
        instead: "",
    };
    Ok(program.build()?)
}

fn secret() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

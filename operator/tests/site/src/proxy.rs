//! A TCP proxy in front of the API server that can fall silent, as networks do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daylight_testbed::ControlPlane;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Forwards connections to the API server until they are silenced. A silent connection stays open:
/// its other end acknowledges what is sent, and nothing arrives any more in either direction.
pub struct Proxy {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    /// A kubeconfig with all rights that leads through the proxy.
    pub kubeconfig: PathBuf,
}

#[derive(Default)]
struct Shared {
    /// The number of connections so far.
    accepted: AtomicU64,
    /// Connections up to this number are silent.
    silent_up_to: AtomicU64,
}

impl Shared {
    fn is_silent(&self, number: u64) -> bool {
        number <= self.silent_up_to.load(Ordering::SeqCst)
    }
}

impl Proxy {
    /// Starts a proxy of this name in front of the API server.
    pub async fn start(control_plane: &ControlPlane, name: &str) -> Self {
        let server = control_plane.url();
        let target: SocketAddr = server.strip_prefix("https://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = std::fs::read_to_string(control_plane.kubeconfig()).unwrap();
        assert!(config.contains(&server), "the kubeconfig names {server}");
        let kubeconfig = control_plane.directory().join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, config.replace(&server, &format!("https://{address}")))
            .unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, target, shared.clone()));
        Self { shared, accepting, kubeconfig }
    }

    /// Silences the connections that exist. New ones work.
    pub fn silence(&self) {
        let accepted = self.shared.accepted.load(Ordering::SeqCst);
        self.shared.silent_up_to.store(accepted, Ordering::SeqCst);
    }

    /// Silences all connections, also new ones.
    pub fn silence_all(&self) {
        self.shared.silent_up_to.store(u64::MAX, Ordering::SeqCst);
    }

    /// Lets new connections work again after [`Proxy::silence_all`].
    pub fn restore(&self) {
        self.silence();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = forward(from_client, to_server, number, &shared) => {}
                () = forward(from_server, to_client, number, &shared) => {
                    // The end of a silent connection does not arrive, either.
                    if shared.is_silent(number) {
                        std::future::pending::<()>().await;
                    }
                }
            }
        });
    }
}

/// Forwards one direction until its end. What arrives on a silent connection is swallowed.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: u64, shared: &Shared) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !shared.is_silent(number) && to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}

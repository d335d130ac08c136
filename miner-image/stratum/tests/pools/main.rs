//! Miners and pools over real sockets.

mod client;
mod dialects;
mod ethash;
mod proxy;
mod scripted;
mod sessions;

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::Duration;

use daylight_stratum::client::{Client, Config, State, Status, Timing};
use daylight_stratum::loopback::{Dialect, LoopbackPool, Misbehaviour, Setup};
use daylight_stratum::sha256d::{Kernel, Scan, sha256d};
use daylight_stratum::{Endpoint, Login, Session, Tls, v1};
use tokio::net::TcpSocket;

pub(crate) fn config(pools: Vec<Endpoint>) -> Config {
    let login = Login {
        user: "wallet.worker".into(),
        password: "x".into(),
        worker: None,
        algorithms: vec![],
        hidden: vec![],
    };
    // Short only where a test waits for it: a busy machine must not fail one.
    let timing = Timing {
        login: Duration::from_secs(20),
        line: Duration::from_secs(20),
        reply: Duration::from_mins(1),
        first_backoff: Duration::from_millis(10),
        longest_backoff: Duration::from_millis(40),
        return_to_first: Duration::from_hours(1),
        ..Timing::default()
    };
    Config { pools, login, timing }
}

pub(crate) async fn pool(setup: Setup) -> LoopbackPool {
    LoopbackPool::start(setup).await.expect("a port on the loopback interface")
}

pub(crate) fn v1_pool(misbehaviour: Misbehaviour) -> Setup {
    Setup { misbehaviour, ..Setup::new(Dialect::V1) }
}

pub(crate) fn monero_pool(misbehaviour: Misbehaviour) -> Setup {
    Setup { misbehaviour, ..Setup::new(Dialect::Monero(sha256d)) }
}

/// An endpoint at which no pool listens. The port stays free for the test: sockets that only hold it
/// do not keep a pool from it, but the system from giving it to another test.
pub(crate) fn no_pool() -> Endpoint {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(vec![]);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option of every socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port on the loopback interface");
    let port = socket.local_addr().expect("it is bound").port();
    HELD.lock().expect("no test panics with it").push(socket);
    Endpoint { host: "127.0.0.1".into(), port, tls: Tls::Off }
}

pub(crate) async fn status<S: Session>(
    client: &Client<S>,
    wanted: impl Fn(&Status) -> bool,
) -> Status {
    client.status().wait_for(|status| wanted(status)).await.expect("the client continues").clone()
}

pub(crate) fn logged_in(pool: usize) -> impl Fn(&Status) -> bool {
    move |status| status.state == State::LoggedIn { pool }
}

/// Mines a share that reaches the target of the newest work.
pub(crate) async fn mine(client: &Client<v1::Session>) -> (u64, v1::Share) {
    let mut work = client.work();
    let offer = work.wait_for(Option::is_some).await.expect("the client continues").clone();
    let offer = offer.expect("it was waited for");
    let mut share = v1::Share {
        job: offer.work.job.id.clone(),
        extranonce2: vec![0; offer.work.extranonce2_size.into()],
        time: offer.work.job.time,
        nonce: 0,
        version_bits: Some(0x2000),
    };
    let scan = Scan::new(offer.work.header(&share), offer.work.difficulty.target());
    share.nonce = Kernel::Lanes.scan(&scan, 0, 1 << 18)[0];
    (offer.connection, share)
}

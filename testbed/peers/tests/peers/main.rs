//! Blocks that are mined through the bridges, on real nodes, and logs that others check.

mod bitcoin;
mod ledger;
mod monero;
mod p2pool;
mod process;
mod xmrig;

use std::process::ExitCode;
use std::time::Duration;

use daylight_peers::Error;
use daylight_stratum::client::{Client, Config, State, Timing, Verdict};
use daylight_stratum::{Endpoint, Failure, Login, Session, Tls};
use daylight_testbed::trials::{Outcome, Trials};

/// Limit for tests that take seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    if std::env::var_os(process::CHILD).is_some() {
        process::child();
    }
    if let Err(error) = xmrig::isolate() {
        eprintln!("no network namespace: {error}");
        return ExitCode::FAILURE;
    }
    Trials::registered()
        .limit(PATIENCE)
        .skipping(|error| error.downcast_ref().is_some_and(Error::is_missing))
        .run()
}

/// A miner at a bridge.
fn client<S: Session>(pool: &daylight_peers::bridge::Pool, user: &str) -> Client<S> {
    let address = pool.address();
    let endpoint = Endpoint { host: address.ip().to_string(), port: address.port(), tls: Tls::Off };
    let login = Login {
        user: user.into(),
        password: "x".into(),
        worker: None,
        algorithms: vec!["rx/0".into()],
        hidden: vec![],
    };
    // A busy machine must not fail a test.
    let timing = Timing {
        login: Duration::from_mins(1),
        line: Duration::from_mins(1),
        reply: Duration::from_mins(2),
        ..Timing::default()
    };
    Client::start(Config { pools: vec![endpoint], login, timing })
}

/// Returns the code and the message of a rejected share.
fn rejected(verdict: Verdict) -> Outcome<(i64, String)> {
    match verdict {
        Verdict::Rejected(failure) => Ok((failure.code, failure.message)),
        other => Err(format!("not rejected: {other:?}").into()),
    }
}

/// Checks that a share was stale, by the client's or the pool's judgement.
fn too_late(verdict: Verdict) -> Outcome {
    if verdict != Verdict::Stale {
        assert_eq!(rejected(verdict)?.0, Failure::STALE);
    }
    Ok(())
}

/// Checks that a client has had one connection since its start.
fn stayed<S: Session>(client: &Client<S>) {
    let status = client.status().borrow().clone();
    assert_eq!((status.state, status.logins), (State::LoggedIn { pool: 0 }, 1), "{status:?}");
}

//! That real nodes take what is mined through the bridges.

mod bitcoin;
mod monero;
mod process;

use std::process::ExitCode;
use std::time::Duration;

use daylight_peers::Error;
use daylight_stratum::client::{Client, Config, State, Timing, Verdict};
use daylight_stratum::{Endpoint, Failure, Login, Session, Tls};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// For what takes seconds where nothing else runs.
const PATIENCE: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    if std::env::var_os(process::CHILD).is_some() {
        process::child();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("btcd_takes_what_is_mined", bitcoin::blocks),
        trial("shares_are_judged_as_bitcoin_has_them", bitcoin::judgement),
        trial("transactions_with_witnesses_are_mined", bitcoin::witnesses),
        trial("a_bridge_outlives_a_restart_of_btcd", bitcoin::restart),
        trial("nothing_outlives_a_killed_parent", process::nothing_outlives_a_kill),
        trial("monerod_takes_what_is_mined", monero::blocks),
        trial("shares_are_judged_as_monero_has_them", monero::judgement),
        trial("a_bridge_outlives_a_restart_of_monerod", monero::restart),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: impl AsyncFnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        let run = async { tokio::time::timeout(PATIENCE, test()).await };
        match Runtime::new()?.block_on(run) {
            Err(_) => Err(Failed::from(format!("it takes more than {PATIENCE:?}"))),
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(error)) => match error.downcast_ref::<Error>() {
                Some(error) if error.is_missing() => Ok(Completion::ignored_with(error)),
                _ => Err(Failed::from(error.to_string())),
            },
        }
    })
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
    };
    // A machine that is busy must not fail a test.
    let timing = Timing {
        login: Duration::from_mins(1),
        line: Duration::from_mins(1),
        reply: Duration::from_mins(2),
        ..Timing::default()
    };
    Client::start(Config { pools: vec![endpoint], login, timing })
}

/// The code and the words of a share that was not taken.
fn rejected(verdict: Verdict) -> Outcome<(i64, String)> {
    match verdict {
        Verdict::Rejected(failure) => Ok((failure.code, failure.message)),
        other => Err(format!("not rejected: {other:?}").into()),
    }
}

/// That a share came too late, whether the client knew or the pool had to say so.
fn too_late(verdict: Verdict) -> Outcome {
    if verdict != Verdict::Stale {
        assert_eq!(rejected(verdict)?.0, Failure::STALE);
    }
    Ok(())
}

/// That a client has had one connection from its start on.
fn stayed<S: Session>(client: &Client<S>) {
    let status = client.status().borrow().clone();
    assert_eq!((status.state, status.logins), (State::LoggedIn { pool: 0 }, 1), "{status:?}");
}

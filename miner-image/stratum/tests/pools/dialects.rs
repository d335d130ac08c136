//! What pools send in addition to the letter of the protocol. Each form is read as cgminer, `XMRig` and ESP-Miner
//! read it, or passed over; none costs a connection or a share.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daylight_stratum::client::{Client, Fault, Status, Verdict};
use daylight_stratum::{Difficulty, Endpoint, Failure, Session, Tls, monero, v1};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::{config, logged_in, status};

/// A pool that plays a script: after the login it sends some lines, then it answers share after share.
struct ScriptedPool {
    endpoint: Endpoint,
    connections: Arc<AtomicUsize>,
}

/// The part of a script that depends on the dialect: answers to the requests of a login.
type Login = fn(method: &str) -> &'static [&'static str];

impl ScriptedPool {
    /// `ID` in an answer stands for the number of the request.
    async fn start(
        login: Login,
        lines: &'static [&'static str],
        answers: Vec<&'static str>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint { host: "127.0.0.1".into(), port, tls: Tls::Off };
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (read, mut write) = stream.into_split();
                let mut requests = BufReader::new(read).lines();
                while let Ok(Some(request)) = requests.next_line().await {
                    let request: serde_json::Value = serde_json::from_str(&request).unwrap();
                    let method = request["method"].as_str().unwrap();
                    let mut script = login(method).to_vec();
                    if script.last().is_some_and(|line| line.contains("LOGGED IN")) {
                        script.pop();
                        script.extend(lines);
                    } else if script.is_empty() {
                        script.extend(answers.next());
                    }
                    for line in script {
                        let line = line.replace("ID", &request["id"].to_string());
                        write.write_all(format!("{line}\n").as_bytes()).await.unwrap();
                    }
                }
            }
        });
        Self { endpoint, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn v1_login(method: &str) -> &'static [&'static str] {
    match method {
        "mining.configure" => &[
            r#"{"id":ID,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#,
        ],
        "mining.subscribe" => &[r#"{"id":ID,"result":[[],"08000002",4],"error":null}"#],
        "mining.authorize" => &[r#"{"id":ID,"result":true,"error":null}"#, "LOGGED IN"],
        _ => &[],
    }
}

macro_rules! blob {
    () => {
        concat!(
            "1010abababababababababababababababababababababababababababababababababababab",
            "00000000cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
        )
    };
}

macro_rules! seed {
    () => {
        "1111111111111111111111111111111111111111111111111111111111111111"
    };
}

macro_rules! monero_job {
    ($more:literal) => {
        concat!(r#"{"blob":""#, blob!(), r#"","target":"b88d0600","#, $more, "}")
    };
}

fn monero_login(method: &str) -> &'static [&'static str] {
    match method {
        "login" => &[
            concat!(
                r#"{"id":ID,"jsonrpc":"2.0","error":null,"result":{"id":"s1","status":"OK","job":"#,
                r#"{"job_id":"12","blob":""#,
                blob!(),
                r#"","target":"b88d0600","height":3100000,"seed_hash":""#,
                seed!(),
                r#""}}}"#
            ),
            "LOGGED IN",
        ],
        _ => &[],
    }
}

macro_rules! notify {
    ($id:literal, $branches:literal, $clean:literal) => {
        concat!(
            r#"{"id":null,"method":"mining.notify","params":["#,
            $id,
            r#","2222222222222222222222222222222222222222222222222222222222222222","#,
            r#""0100000001ffffffff10","ffffffff0100f2052a01000000015100000000","#,
            $branches,
            r#","20000000","1d00ffff","665f1a2b""#,
            $clean,
            "]}"
        )
    };
}

fn v1_share(work: &v1::Work) -> v1::Share {
    v1::Share {
        job: work.job.id.clone(),
        extranonce2: vec![0; work.extranonce2_size.into()],
        time: work.job.time,
        nonce: 0,
        version_bits: None,
    }
}

fn monero_share(work: &monero::Work) -> monero::Share {
    monero::Share { job: work.job.id.clone(), nonce: [0; 4], result: [0; 32] }
}

/// Plays a script to a client, submits a share for each answer, and compares the verdicts. The
/// connection must be the first one still.
async fn play<S: Session>(
    login: Login,
    share: fn(&S::Work) -> S::Share,
    lines: &'static [&'static str],
    answers: &[(&'static str, Result<(), Failure>)],
) -> (S::Work, Status) {
    let pool = ScriptedPool::start(login, lines, answers.iter().map(|it| it.0).collect()).await;
    let client = Client::<S>::start(config(vec![pool.endpoint.clone()]));
    status(&client, logged_in(0)).await;
    let mut offers = client.work();
    let offer = offers.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    for (answer, expected) in answers {
        let verdict = client.shares().submit(offer.connection, share(&offer.work)).await.unwrap();
        let expected = match expected {
            Ok(()) => Verdict::Accepted,
            Err(failure) => Verdict::Rejected(failure.clone()),
        };
        assert_eq!(verdict, expected, "{answer}");
    }
    let seen = client.status().borrow().clone();
    assert_eq!((pool.connections(), seen.logins, seen.lost), (1, 1, 0), "{lines:?}");
    let work = client.work().borrow().as_ref().unwrap().work.clone();
    (work, seen)
}

fn refused<T>(code: i64, words: &str) -> Result<T, Failure> {
    Err(Failure::new(code, words))
}

const SET_DIFFICULTY: &str = r#"{"id":null,"method":"mining.set_difficulty","params":[0.0001]}"#;

#[tokio::test]
async fn a_share_is_judged_in_every_form() {
    let no_reason = "the pool refused without a reason";
    let answers = [
        // Accepted, whatever other fields there are.
        (r#"{"id":ID,"result":true,"error":null,"jsonrpc":"2.0","latency":3}"#, Ok(())),
        (r#"{"id":ID,"result":true,"error":false}"#, Ok(())),
        (r#"{"id":ID,"result":true,"error":[]}"#, Ok(())),
        (r#"{"id":ID,"result":true,"error":""}"#, Ok(())),
        (r#"{"id":ID,"result":true,"error":{}}"#, Ok(())),
        (r#"{"id":ID.0,"result":true,"error":null}"#, Ok(())),
        (r#"{"id":"ID","result":true,"error":null}"#, Ok(())),
        // Refused, with the pool's words where it has any.
        (
            r#"{"id":ID,"result":null,"error":[21,"Job not found",""]}"#,
            refused(21, "Job not found"),
        ),
        (
            r#"{"id":ID,"result":false,"error":[23,"Low difficulty share",null]}"#,
            refused(23, "Low difficulty share"),
        ),
        (
            r#"{"id":ID,"result":null,"error":["22","Duplicate share",null]}"#,
            refused(22, "Duplicate share"),
        ),
        (r#"{"id":ID,"result":null,"error":[null,"x"]}"#, refused(20, "x")),
        (r#"{"id":ID,"result":null,"error":[20,null,null]}"#, refused(20, no_reason)),
        (r#"{"id":ID,"result":null,"error":{"code":-1}}"#, refused(-1, no_reason)),
        (
            r#"{"id":ID,"result":null,"error":{"code":-401,"message":"Time too new"}}"#,
            refused(-401, "Time too new"),
        ),
        (r#"{"id":ID,"result":null,"error":"Stale share"}"#, refused(20, "Stale share")),
        (r#"{"id":ID,"result":false}"#, refused(20, no_reason)),
        // ckpool.
        (
            r#"{"reject-reason":"Above target","result":false,"error":null,"id":ID}"#,
            refused(20, "Above target"),
        ),
    ];
    let lines = &[SET_DIFFICULTY, notify!("\"1\"", "[]", ",true")];
    let (_, status) = play::<v1::Session>(v1_login, v1_share, lines, &answers).await;
    assert_eq!((status.accepted, status.rejected, status.stale), (7, 8, 2));
    assert_eq!(status.unread_lines, 0);
}

#[tokio::test]
async fn a_monero_share_is_judged_in_every_form() {
    let no_reason = "the pool refused without a reason";
    let answers = [
        (r#"{"id":ID,"jsonrpc":"2.0","error":null,"result":{"status":"OK"}}"#, Ok(())),
        (r#"{"id":ID,"jsonrpc":"2.0","error":false,"result":{"status":"OK"}}"#, Ok(())),
        (r#"{"id":ID,"jsonrpc":"2.0","error":null,"result":{"status":"ok"}}"#, Ok(())),
        // p2pool.
        (
            r#"{"id":ID,"jsonrpc":"2.0","error":{"message":"Stale share"}}"#,
            refused(20, "Stale share"),
        ),
        (
            r#"{"id":ID,"jsonrpc":"2.0","error":{"code":"-32602","message":"x"}}"#,
            refused(-32602, "x"),
        ),
        (r#"{"id":ID,"jsonrpc":"2.0","error":{"code":null,"message":"x"}}"#, refused(20, "x")),
        (r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-1}}"#, refused(-1, no_reason)),
        (r#"{"id":ID,"jsonrpc":"2.0","error":null}"#, refused(-1, no_reason)),
    ];
    let (_, status) = play::<monero::Session>(monero_login, monero_share, &[], &answers).await;
    assert_eq!((status.accepted, status.rejected, status.stale), (3, 4, 1));
    assert_eq!(status.unread_lines, 0);
}

#[tokio::test]
async fn work_is_read_in_every_form() {
    let accepted = [(r#"{"id":ID,"result":true,"error":null}"#, Ok(()))];
    for (line, id, clean) in [
        (notify!("\"1f\"", "[]", ""), "1f", false),
        (notify!("\"20\"", "[]", ",1"), "20", true),
        (notify!("\"21\"", "null", ",true"), "21", true),
        (notify!("7", "[]", ",\"yes\""), "7", false),
    ] {
        let lines: &'static [&'static str] = vec![SET_DIFFICULTY, line].leak();
        let (work, status) = play::<v1::Session>(v1_login, v1_share, lines, &accepted).await;
        assert_eq!((&*work.job.id, work.job.clean, work.job.branches.len()), (id, clean, 0));
        assert_eq!(status.unread_lines, 0, "{line}");
    }
    let lines = &[
        r#"{"id":null,"method":"mining.set_difficulty","params":["0.0001"]}"#,
        notify!("\"22\"", "[]", ",true"),
    ];
    let (work, _) = play::<v1::Session>(v1_login, v1_share, lines, &accepted).await;
    assert_eq!(Difficulty::new(0.0001), Some(work.difficulty));
}

#[tokio::test]
async fn monero_work_is_read_in_every_form() {
    let accepted = r#"{"id":ID,"jsonrpc":"2.0","error":null,"result":{"status":"OK"}}"#;
    for (line, job, height) in [
        (monero_job!(r#""job_id":13,"height":"3000002""#), "13", Some(3_000_002)),
        (monero_job!(r#""job_id":"14","height":null,"algo":null,"seed_hash":"""#), "14", None),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","method":"job","params":{line}}}"#);
        let lines: &'static [&'static str] = vec![&*line.leak()].leak();
        let pool = ScriptedPool::start(monero_login, lines, vec![accepted]).await;
        let client = Client::<monero::Session>::start(config(vec![pool.endpoint.clone()]));
        let mut offers = client.work();
        let newest = |offer: &Option<Arc<daylight_stratum::client::Offer<monero::Work>>>| {
            offer.as_ref().is_some_and(|offer| offer.work.job.id == job)
        };
        let offer = offers.wait_for(newest).await.unwrap().clone().unwrap();
        assert_eq!((offer.work.job.height, offer.work.job.seed), (height, None));
        let share = monero_share(&offer.work);
        let verdict = client.shares().submit(offer.connection, share).await.unwrap();
        assert_eq!((verdict, pool.connections()), (Verdict::Accepted, 1));
    }
}

#[tokio::test]
async fn a_monero_session_may_have_a_number_for_a_name_or_none() {
    fn login_with_number(method: &str) -> &'static [&'static str] {
        match method {
            "login" => &[
                concat!(
                    r#"{"id":ID,"error":null,"result":{"id":77,"status":"OK","job":{"job_id":"1","blob":""#,
                    blob!(),
                    r#"","target":"b88d0600"}}}"#
                ),
                "LOGGED IN",
            ],
            _ => &[],
        }
    }
    fn login_without(method: &str) -> &'static [&'static str] {
        match method {
            "login" => &[
                concat!(
                    r#"{"id":ID,"error":null,"result":{"status":"OK","job":{"job_id":"1","blob":""#,
                    blob!(),
                    r#"","target":"b88d0600"}}}"#
                ),
                "LOGGED IN",
            ],
            _ => &[],
        }
    }
    let accepted = [(r#"{"id":ID,"result":{"status":"OK"}}"#, Ok(()))];
    for login in [login_with_number as Login, login_without] {
        let (_, status) = play::<monero::Session>(login, monero_share, &[], &accepted).await;
        assert_eq!(status.accepted, 1);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_passed_over_and_counted() {
    let lines = &[
        "{ id: null, result: [], error: true }",
        SET_DIFFICULTY,
        notify!("\"1\"", "[]", ",true"),
        r#"{"id":null,"result":[],"error":true}"#,
        r#"{"id":-1,"result":true,"error":null}"#,
        r#"{"id":null,"method":"client.show_message","params":[]}"#,
        r#"{"id":null,"method":"client.get_version","params":[]}"#,
        r#"{"id":null,"method":"mining.notify","params":[]}"#,
        r#"{"id":null,"method":"mining.set_difficulty","params":[0]}"#,
        r#"{"id":null,"method":"mining.set_extranonce","params":["08000002"]}"#,
        "\u{16}\u{3}\u{1}{]",
    ];
    let accepted = [(r#"{"id":ID,"result":true,"error":null}"#, Ok(()))];
    let (work, status) = play::<v1::Session>(v1_login, v1_share, lines, &accepted).await;
    assert_eq!((&*work.job.id, Some(work.difficulty)), ("1", Difficulty::new(0.0001)));
    // What concerns no request of ours is no fault.
    assert_eq!(status.unread_lines, 6);
    let Some(fault @ Fault::Unread { .. }) = status.fault else { panic!("{status:?}") };
    assert!(
        fault.to_string().contains(" was passed over: the line is not a JSON object"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_redirect_in_odd_forms_leads_nowhere_else() {
    let lines = &[
        SET_DIFFICULTY,
        notify!("\"1\"", "[]", ",true"),
        r#"{"id":null,"method":"client.reconnect","params":["elsewhere.example","",0]}"#,
        r#"{"id":null,"method":"client.reconnect","params":["elsewhere.example","3333","0"]}"#,
    ];
    let accepted = [(r#"{"id":ID,"result":true,"error":null}"#, Ok(()))];
    let (_, status) = play::<v1::Session>(v1_login, v1_share, lines, &accepted).await;
    assert_eq!((status.refused_redirects, status.unread_lines), (2, 0));
}

#[tokio::test]
async fn rolling_without_a_mask_rolls_nothing_until_one_is_set() {
    fn login(method: &str) -> &'static [&'static str] {
        match method {
            "mining.configure" => &[r#"{"id":ID,"result":{"version-rolling":true},"error":null}"#],
            other => v1_login(other),
        }
    }
    let accepted = [(r#"{"id":ID,"result":true,"error":null}"#, Ok(()))];
    let lines = &[SET_DIFFICULTY, notify!("\"1\"", "[]", ",true")];
    let (work, status) = play::<v1::Session>(login, v1_share, lines, &accepted).await;
    assert_eq!((work.version_mask, status.unread_lines), (0, 0));
    let lines = &[
        r#"{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}"#,
        SET_DIFFICULTY,
        notify!("\"2\"", "[]", ",true"),
    ];
    let (work, _) = play::<v1::Session>(login, v1_share, lines, &accepted).await;
    assert_eq!(work.version_mask, 0x1fff_e000);
}

/// A pool that sends nothing that can be read is left, with the reason.
#[tokio::test]
async fn a_pool_that_cannot_be_read_at_all_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all("<html>\n".repeat(100).as_bytes()).await;
            // Until the client leaves.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    let endpoint = Endpoint { host: "127.0.0.1".into(), port, tls: Tls::Off };
    let client = Client::<v1::Session>::start(config(vec![endpoint]));
    let seen = status(&client, |status| status.fault.is_some()).await;
    assert!(matches!(seen.fault, Some(Fault::Malformed { .. })), "{seen:?}");
}

/// Pools repeat the wallet in their refusals, and a status is public.
#[tokio::test]
async fn what_a_login_hides_is_in_no_words_of_a_pool() {
    fn refuses(method: &str) -> &'static [&'static str] {
        match method {
            "mining.authorize" => {
                &[r#"{"id":ID,"result":null,"error":[24,"Invalid address: 49secret.rig",null]}"#]
            }
            other => v1_login(other),
        }
    }
    let hiding = |endpoint: &Endpoint| {
        let mut config = config(vec![endpoint.clone()]);
        config.login.hidden = vec![("49secret".into(), "[wallet]")];
        config
    };
    let pool = ScriptedPool::start(refuses, &[], vec![]).await;
    let client = Client::<v1::Session>::start(hiding(&pool.endpoint));
    let seen = status(&client, |status| status.fault.is_some()).await;
    let fault = seen.fault.unwrap().to_string();
    assert!(
        fault.ends_with("refused the login: Invalid address: [wallet].rig (code 24)"),
        "{fault}"
    );

    let lines = &[
        SET_DIFFICULTY,
        r#"{"id":null,"method":"client.show_message","params":["Welcome, 49secret"]}"#,
        notify!("\"1\"", "[]", ",true"),
    ];
    let answer = r#"{"id":ID,"result":false,"error":[20,"49secret is banned",null]}"#;
    let pool = ScriptedPool::start(v1_login, lines, vec![answer]).await;
    let client = Client::<v1::Session>::start(hiding(&pool.endpoint));
    let mut offers = client.work();
    let offer = offers.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let verdict = client.shares().submit(offer.connection, v1_share(&offer.work)).await.unwrap();
    assert_eq!(verdict, Verdict::Rejected(Failure::new(20, "[wallet] is banned")));
    assert_eq!(client.status().borrow().message.as_deref(), Some("Welcome, [wallet]"));
}

#[test]
fn keep_alive_messages_are_sent_to_pools_that_know_them() {
    let blob = blob!();
    for (extensions, expected) in [(r#"["algo","keepalive"]"#, true), ("[]", false)] {
        let reply = format!(
            r#"{{"id":1,"error":null,"result":{{"id":"s","status":"OK","extensions":{extensions},"job":{{"job_id":"1","blob":"{blob}","target":"b88d0600"}}}}}}"#
        );
        let (mut session, _) = monero::Session::open(&config(vec![]).login);
        session.receive(reply.as_bytes()).unwrap();
        assert_eq!(session.keep_alive().is_some(), expected, "{extensions}");
    }
}

//! The codecs: real messages, property tests, and lines that are not messages; endpoints and
//! difficulties.
//!
//! Properties run 256 cases each; `PROPTEST_CASES=100000` sets another number.

mod difficulty;
mod endpoint;
mod ethash;
mod oracle;

use daylight_stratum::ethash::{ethproxy, stratum};
use daylight_stratum::{Difficulty, Failure, Id, Malformed, monero, v1};
use proptest::prelude::*;
use serde_json::json;

/// `mining.notify` from the protocol's description at slushpool.com.
const NOTIFY: &str = r#"{"params": ["bf", "4d16b6f85af6e2198f44ae2a6de67f78487ae5611b77c6c0440b921e00000000",
"01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff20020862062f503253482f04b8864e5008",
"072f736c7573682f000000000100f2052a010000001976a914d23fcdf86f7e756a64a7a9688ef9903327048ed988ac00000000", [],
"00000002", "1c2ac4af", "504e86b9", false], "id": null, "method": "mining.notify"}"#;

fn from_pool(line: &str) -> v1::FromPool {
    v1::FromPool::decode(line.as_bytes()).expect("a message of a pool")
}

fn reply(line: &str) -> v1::Reply {
    match from_pool(line) {
        v1::FromPool::Reply(reply) => reply,
        other => panic!("not a reply: {other:?}"),
    }
}

#[test]
fn a_published_job() {
    let v1::FromPool::Notice(v1::Notice::Job(job)) = from_pool(NOTIFY) else { panic!() };
    assert_eq!(job.id, "bf");
    assert_eq!((job.version, job.bits, job.time), (2, 0x1c2a_c4af, 0x504e_86b9));
    assert!(!job.clean && job.branches.is_empty());
    // A block's hash is published with its highest byte first, so it begins with zeros.
    let mut shown = job.previous;
    shown.reverse();
    assert_eq!(
        hex::encode(shown),
        "00000000440b921e1b77c6c0487ae5616de67f788f44ae2a5af6e2194d16b6f8"
    );
}

#[test]
fn published_answers() {
    let subscribed = reply(
        r#"{"id": 1, "result": [ [ ["mining.set_difficulty", "b4b6693b72a50c7116db18d6497cac52"],
        ["mining.notify", "ae6812eb4cd7735a302a8a9dd95cf71f"]], "08000002", 4], "error": null}"#,
    );
    assert_eq!(
        v1::Subscribed::decode(&subscribed.result.unwrap()),
        Ok(v1::Subscribed {
            session: "b4b6693b72a50c7116db18d6497cac52".into(),
            extranonce1: vec![8, 0, 0, 2],
            extranonce2_size: 4,
        })
    );
    // From BIP 310.
    let configured = reply(
        r#"{"error": null, "id": 1, "result": {"version-rolling": true,
        "version-rolling.mask": "18000000", "minimum-difficulty": true}}"#,
    );
    assert_eq!(
        v1::Configured::decode(&configured.result.unwrap()),
        Ok(v1::Configured { version_mask: Some(0x1800_0000), extranonce: false })
    );
    let refused = reply(r#"{"error": [21, "Job not found", null], "id": 10, "result": null}"#);
    assert_eq!(refused.accepted(), Err(Failure::new(Failure::STALE, "Job not found")));
    assert_eq!(reply(r#"{"error": null, "id": 4, "result": true}"#).accepted(), Ok(()));
    for code in 20..=25 {
        let failure =
            reply(&json!({"id": 1, "result": null, "error": [code, "no", null]}).to_string());
        assert_eq!(failure.accepted(), Err(Failure::new(code, "no")));
    }
}

#[test]
fn published_requests() {
    let submit = r#"{"params": ["slush.miner1", "bf", "00000001", "504e86ed", "b2957c02"], "id": 4, "method": "mining.submit"}"#;
    assert_eq!(
        v1::Request::decode(submit.as_bytes()).unwrap(),
        v1::Request {
            id: Id::Number(4),
            call: v1::Call::Submit(v1::Submit {
                user: "slush.miner1".into(),
                job: "bf".into(),
                extranonce2: vec![0, 0, 0, 1],
                time: 0x504e_86ed,
                nonce: 0xb295_7c02,
                version_bits: None,
            }),
        }
    );
    // From BIP 310.
    let configure = r#"{"method": "mining.configure", "id": 1, "params": [["minimum-difficulty", "version-rolling"],
        {"minimum-difficulty.value": 2048, "version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2}]}"#;
    let v1::Call::Configure { version_rolling, .. } =
        v1::Request::decode(configure.as_bytes()).unwrap().call
    else {
        panic!()
    };
    assert_eq!(version_rolling, Some(v1::VersionRolling { mask: 0x1fff_e000, min_bits: 2 }));
}

#[test]
fn redirects_in_every_form() {
    let redirect = |params| match from_pool(
        &json!({"id": null, "method": "client.reconnect", "params": params}).to_string(),
    ) {
        v1::FromPool::Notice(v1::Notice::Reconnect(redirect)) => redirect,
        other => panic!("no redirect: {other:?}"),
    };
    let named = |port, wait| v1::Redirect { host: Some("pool.example".into()), port, wait };
    assert_eq!(redirect(json!([])), v1::Redirect::default());
    assert_eq!(redirect(json!(["", null, 0])), v1::Redirect::default());
    assert_eq!(redirect(json!(["pool.example", 3333, 5])), named(Some(3333), 5));
    assert_eq!(redirect(json!(["pool.example", "3333"])), named(Some(3333), 0));
}

#[test]
fn a_job_of_a_monero_pool() {
    // The login's answer in xmrig-proxy's description of the protocol.
    let line = r#"{"id":1,"jsonrpc":"2.0","error":null,"result":{"id":"1be0b7b6-b15a-47be-a17d-46b2911cf7d0",
        "job":{"blob":"070780e6b9d60586ba419a0c224e3c6c3e134cc45c4fa04d8ee2d91c2595463c57eef0a4f0796c000000002fcc4d62fa6c77e76c30017c768be5c61d83ec9d3a085d524ba8053ecc3224660d",
        "job_id":"q7PLUPL25UV0z5Ij14IyMk8htXbj","target":"b88d0600","algo":"cn/1"},
        "extensions":["algo"],"status":"OK"}}"#;
    let monero::FromPool::Reply(reply) = monero::FromPool::decode(line.as_bytes()).unwrap() else {
        panic!()
    };
    let login = monero::LoggedIn::decode(&reply.result.unwrap()).unwrap();
    assert_eq!(login.job.blob[monero::Job::NONCE], [0; 4]);
    // b88d0600 is difficulty 10,000.
    assert_eq!(login.job.target, u64::MAX / 10_000);
    assert_eq!(login.job.target().expected_hashes(), 10_000);
}

#[test]
fn a_line_that_is_not_a_message_is_one_clear_error() {
    let notify = |index: usize, value| {
        let mut message: serde_json::Value = serde_json::from_str(NOTIFY).unwrap();
        message["params"][index] = value;
        v1::FromPool::decode(message.to_string().as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        notify(1, json!("00")),
        "mining.notify: previous block is not 32 bytes in hexadecimal digits"
    );
    assert_eq!(
        notify(2, json!("0")),
        "mining.notify: coinbase1 is not bytes in hexadecimal digits"
    );
    assert_eq!(notify(4, json!([1])), "mining.notify: Merkle branches is not a list of strings");
    assert_eq!(
        notify(5, json!("+0000001")),
        "mining.notify: version is not up to eight hexadecimal digits"
    );
    assert_eq!(
        notify(7, json!("123456789")),
        "mining.notify: time is not up to eight hexadecimal digits"
    );

    let wrong = |line: &str| v1::FromPool::decode(line.as_bytes()).unwrap_err().to_string();
    for difficulty in ["0", "-1", "null", "\"\"", "\"x\""] {
        assert_eq!(
            wrong(&format!(r#"{{"method":"mining.set_difficulty","params":[{difficulty}]}}"#)),
            "mining.set_difficulty: difficulty is not a number above 0"
        );
    }
    assert!(
        wrong(r#"{"method":"mining.set_difficulty","params":[1e400]}"#)
            .contains("number out of range")
    );
    assert_eq!(wrong("[]"), "the line is not a JSON object: it holds another value");
    assert_eq!(
        v1::FromPool::decode(br#"{"method":"mining.set_goal","params":[]}"#),
        Err(Malformed::UnknownMethod("mining.set_goal".into()))
    );
    assert!(wrong(&"[".repeat(10_000)).contains("recursion limit"));
    assert_eq!(wrong(&" ".repeat(70_000)), "the line is longer than 65536 bytes");

    let job = |blob: usize, target: &str| {
        let params = json!({"job_id": "1", "blob": "00".repeat(blob), "target": target});
        let line = json!({"method": "job", "params": params}).to_string();
        monero::FromPool::decode(line.as_bytes()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(job(76, "ffffffff"), Ok(()));
    assert_eq!(
        job(42, "ffffffff"),
        Err("job: blob is not 43 to 408 bytes in hexadecimal digits".into())
    );
    for target in ["", "00", "00000000", "0000000000000000", "ffffffffff"] {
        assert_eq!(
            job(76, target),
            Err("job: target is not 4 or 8 bytes in hexadecimal digits, above 0".into())
        );
    }
}

fn id() -> impl Strategy<Value = Id> {
    prop_oneof![any::<u64>().prop_map(Id::Number), ".{0,9}".prop_map(Id::Text)]
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=most)
}

fn difficulty() -> impl Strategy<Value = Difficulty> {
    any::<f64>().prop_filter_map("finite and above 0", |number| Difficulty::new(number.abs()))
}

fn failure() -> impl Strategy<Value = Failure> {
    (any::<i64>(), ".{0,30}").prop_map(|(code, message)| Failure::new(code, message))
}

/// Shares, with patterns for the user and the job.
fn submit(
    user: &'static str,
    job: &'static str,
    extranonce2: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = v1::Submit> {
    (user, job, extranonce2, any::<(u32, u32, Option<u32>)>()).prop_map(
        |(user, job, extranonce2, (time, nonce, version_bits))| v1::Submit {
            user,
            job,
            extranonce2,
            time,
            nonce,
            version_bits,
        },
    )
}

fn call() -> impl Strategy<Value = v1::Call> {
    use v1::Call;
    prop_oneof![
        (prop::collection::vec(".{0,9}", 0..4), any::<Option<(u32, u8)>>()).prop_map(
            |(extensions, rolling)| Call::Configure {
                extensions,
                version_rolling: rolling
                    .map(|(mask, min_bits)| v1::VersionRolling { mask, min_bits }),
            }
        ),
        (".{0,20}", prop::option::of(".{0,20}"))
            .prop_map(|(agent, session)| Call::Subscribe { agent, session }),
        (".{0,20}", ".{0,20}").prop_map(|(user, password)| Call::Authorize { user, password }),
        Just(Call::SubscribeExtranonce),
        difficulty().prop_map(Call::SuggestDifficulty),
        submit(".{0,20}", ".{0,9}", bytes(16)).prop_map(Call::Submit),
    ]
}

/// Jobs, with a pattern for the name and the largest size of each half of the coinbase.
fn job(id: &'static str, most: usize) -> impl Strategy<Value = v1::Job> {
    let parts = (bytes(most), bytes(most), prop::collection::vec(any::<[u8; 32]>(), 0..14));
    (id, any::<[u8; 32]>(), parts, any::<(u32, u32, u32, bool)>()).prop_map(
        |(id, previous, (coinbase1, coinbase2, branches), (version, bits, time, clean))| v1::Job {
            id,
            previous,
            coinbase1,
            coinbase2,
            branches,
            version,
            bits,
            time,
            clean,
        },
    )
}

fn notice() -> impl Strategy<Value = v1::Notice> {
    use v1::Notice;
    prop_oneof![
        job(".{0,20}", 300).prop_map(Notice::Job),
        difficulty().prop_map(Notice::SetDifficulty),
        (bytes(16), any::<u8>()).prop_map(|(extranonce1, extranonce2_size)| {
            Notice::SetExtranonce { extranonce1, extranonce2_size }
        }),
        any::<u32>().prop_map(Notice::SetVersionMask),
        (prop::option::of(".{1,20}"), any::<(Option<u16>, u32)>())
            .prop_map(|(host, (port, wait))| Notice::Reconnect(v1::Redirect { host, port, wait })),
        ".{0,40}".prop_map(Notice::ShowMessage),
    ]
}

fn v1_reply() -> impl Strategy<Value = v1::Reply> {
    let result = prop_oneof![
        any::<bool>().prop_map(|yes| Ok(json!(yes))),
        failure().prop_map(Err),
        (".{0,20}", bytes(16), any::<u8>()).prop_map(|(session, extranonce1, size)| {
            let extranonce2_size = size;
            Ok(v1::Subscribed { session, extranonce1, extranonce2_size }.encode())
        }),
    ];
    (prop::option::of(id()), result).prop_map(|(id, result)| v1::Reply { id, result })
}

fn monero_job() -> impl Strategy<Value = monero::Job> {
    let blob = prop::collection::vec(any::<u8>(), 43..120);
    let optional = (prop::option::of(".{0,9}"), any::<(Option<u64>, Option<[u8; 32]>)>());
    (".{0,20}", blob, 1..=u64::MAX, optional).prop_map(
        |(id, blob, target, (algorithm, (height, seed)))| monero::Job {
            id,
            blob,
            target,
            algorithm,
            height,
            seed,
        },
    )
}

fn monero_call() -> impl Strategy<Value = monero::Call> {
    use monero::Call;
    let names = (".{0,20}", ".{0,20}", ".{0,20}");
    let more = (prop::option::of(".{0,9}"), prop::collection::vec(".{0,9}", 0..4));
    prop_oneof![
        (names, more).prop_map(|((login, pass, agent), (rigid, algorithms))| Call::Login {
            login,
            pass,
            agent,
            rigid,
            algorithms
        }),
        (".{0,20}", ".{0,20}", any::<([u8; 4], [u8; 32])>()).prop_map(
            |(session, job, (nonce, result))| {
                Call::Submit(monero::Submit { session, job, nonce, result })
            }
        ),
        ".{0,20}".prop_map(|session| Call::KeepAlive { session }),
    ]
}

proptest! {
    #[test]
    fn v1_requests_come_back_as_they_were(id in id(), call in call()) {
        let request = v1::Request { id, call };
        prop_assert_eq!(v1::Request::decode(request.encode().as_bytes()), Ok(request));
    }

    #[test]
    fn v1_messages_come_back_as_they_were(
        message in prop_oneof![
            notice().prop_map(v1::FromPool::Notice),
            v1_reply().prop_map(v1::FromPool::Reply),
            id().prop_map(|id| v1::FromPool::Asks(id, v1::Question::Version)),
            id().prop_map(|id| v1::FromPool::Asks(id, v1::Question::Ping)),
        ]
    ) {
        prop_assert_eq!(v1::FromPool::decode(message.encode().as_bytes()), Ok(message));
    }

    #[test]
    fn v1_results_come_back_as_they_were(
        session in ".{0,20}", extranonce1 in bytes(16), extranonce2_size: u8,
        version_mask: Option<u32>, extranonce: bool,
    ) {
        let subscribed = v1::Subscribed { session, extranonce1, extranonce2_size };
        prop_assert_eq!(v1::Subscribed::decode(&subscribed.encode()), Ok(subscribed));
        let configured = v1::Configured { version_mask, extranonce };
        prop_assert_eq!(v1::Configured::decode(&configured.encode()), Ok(configured));
    }

    #[test]
    fn monero_requests_come_back_as_they_were(id in id(), call in monero_call()) {
        let request = monero::Request { id, call };
        prop_assert_eq!(monero::Request::decode(request.encode().as_bytes()), Ok(request));
    }

    #[test]
    fn monero_messages_come_back_as_they_were(
        id in prop::option::of(id()), job in monero_job(), session in ".{0,20}", failure in failure(),
    ) {
        let login = monero::LoggedIn { session, job: job.clone(), extensions: vec!["keepalive".into()] };
        prop_assert_eq!(monero::LoggedIn::decode(&login.encode()), Ok(login.clone()));
        for message in [
            monero::FromPool::Job(job),
            monero::FromPool::Reply(monero::Reply { id: id.clone(), result: Ok(login.encode()) }),
            monero::FromPool::Reply(monero::Reply { id, result: Err(failure) }),
        ] {
            prop_assert_eq!(monero::FromPool::decode(message.encode().as_bytes()), Ok(message));
        }
    }

    #[test]
    fn no_bytes_make_a_codec_panic(bytes in bytes(400)) {
        decode_all(&bytes);
    }

    #[test]
    fn no_message_with_wrong_bytes_makes_a_codec_panic(
        notice in notice(), call in monero_call(), job in monero_job(),
        at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        for line in [
            v1::FromPool::Notice(notice).encode(),
            monero::FromPool::Job(job).encode(),
            monero::Request { id: Id::Number(1), call }.encode(),
        ] {
            let mut bytes = line.into_bytes();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            decode_all(&bytes);
            decode_all(&bytes[..cut.index(bytes.len())]);
        }
    }
}

/// Text of a pool or an engine appears in logs and conditions, where it must not begin a line.
#[test]
fn text_of_the_other_side_stays_one_short_line() {
    let error = v1::FromPool::decode(br#"{"id": null, "method": "a\nb", "params": []}"#);
    assert_eq!(error.unwrap_err().to_string(), r"the method `a\nb` is unknown");

    let refusal = Failure::new(24, format!("isn't\r\n{}", "x".repeat(100_000))).to_string();
    assert!(refusal.starts_with(r"isn't\r\nxxx") && refusal.len() < 300, "{refusal}");
}

/// Each result is either a message that comes back as it was, or an error of one line.
fn decode_all(line: &[u8]) {
    fn one<T: PartialEq + std::fmt::Debug>(
        line: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, Malformed>,
        encode: impl Fn(&T) -> String,
    ) {
        match decode(line) {
            Ok(message) => assert_eq!(decode(encode(&message).as_bytes()), Ok(message)),
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
    one(line, v1::FromPool::decode, v1::FromPool::encode);
    one(line, v1::Request::decode, v1::Request::encode);
    one(line, monero::FromPool::decode, monero::FromPool::encode);
    one(line, monero::Request::decode, monero::Request::encode);
    one(line, stratum::FromPool::decode, stratum::FromPool::encode);
    one(line, stratum::Request::decode, stratum::Request::encode);
    one(line, ethproxy::FromPool::decode, ethproxy::FromPool::encode);
    one(line, ethproxy::Request::decode, ethproxy::Request::encode);
}

//! Messages of Ethash's and `KawPow`'s pools and miners.

use daylight_stratum::ethash::{Job, ethproxy, stratum};
use daylight_stratum::{Difficulty, Failure, Id, Target, v1};
use proptest::prelude::*;
use serde_json::json;

use super::{bytes, call, decode_all, failure, id, notice};

/// Messages of `NiceHash`'s description of EthereumStratum/1.0.0.
#[test]
fn published_messages_of_ethereum_stratum() {
    let decode = |line: &str| stratum::FromPool::decode(line.as_bytes()).unwrap();
    let subscribed = decode(
        r#"{"id": 1, "result": [["mining.notify", "ae6812eb4cd7735a302a8a9dd95cf71f", "EthereumStratum/1.0.0"], "080c"], "error": null}"#,
    );
    let stratum::FromPool::V1(v1::FromPool::Reply(reply)) = subscribed else { panic!() };
    assert_eq!(
        stratum::Subscribed::decode(&reply.result.unwrap()),
        Ok(stratum::Subscribed {
            version: Some("EthereumStratum/1.0.0".into()),
            extranonce: vec![8, 12]
        })
    );
    assert_eq!(
        decode(r#"{"id": null, "method": "mining.set_difficulty", "params": [0.5]}"#),
        stratum::FromPool::V1(v1::FromPool::Notice(v1::Notice::SetDifficulty(
            Difficulty::new(0.5).unwrap()
        )))
    );
    assert_eq!(
        decode(r#"{"id": null, "method": "mining.set_extranonce", "params": ["af4c"]}"#),
        stratum::FromPool::SetExtranonce(vec![0xaf, 0x4c])
    );
    let stratum::FromPool::Job(job) = decode(
        r#"{"id": null, "method": "mining.notify", "params": ["bf0488aa",
        "abad8f99f3918bf903c6a909d9bbc0fdfa5a2f4b9cb1196175ec825c6610126c",
        "645cf20198c2f3861e947d4f67e3ab63b7b2e24dcc9095bd9123e7b33371f6cc", true]}"#,
    ) else {
        panic!()
    };
    assert_eq!((&*job.id, job.seed[0], job.header[0]), ("bf0488aa", 0xab, 0x64));
    assert_eq!((job.target, job.height, job.clean), (None, None, true));
    let submit = r#"{"id": 244, "method": "mining.submit", "params": ["username", "bf0488aa", "6a909d9bbc0f"]}"#;
    assert_eq!(
        stratum::Request::decode(submit.as_bytes()).unwrap(),
        stratum::Request {
            id: Id::Number(244),
            call: stratum::Call::Submit(stratum::Submit {
                user: "username".into(),
                job: "bf0488aa".into(),
                nonce: vec![0x6a, 0x90, 0x9d, 0x9b, 0xbc, 0x0f],
                solution: None,
            }),
        }
    );
    // The document's refusal has a NULL that is no JSON; what pools send has null.
    let refused = decode(r#"{"id": 244, "result": false, "error": [-1, "Job not found", null]}"#);
    let stratum::FromPool::V1(v1::FromPool::Reply(reply)) = refused else { panic!() };
    assert_eq!(reply.accepted(), Err(Failure::new(-1, "Job not found")));
}

#[test]
fn subscriptions_in_every_form() {
    let extranonce = |result| stratum::Subscribed::decode(&result).map(|it| it.extranonce);
    assert_eq!(extranonce(json!([null, "605132"])), Ok(vec![0x60, 0x51, 0x32]));
    assert_eq!(extranonce(json!([[["mining.notify", "1"]], "0x0a", 6])), Ok(vec![10]));
    assert_eq!(extranonce(json!(true)), Ok(vec![]));
    assert_eq!(extranonce(json!([null, ""])), Ok(vec![]));
    for wrong in [json!([null, "zz"]), json!([null, "0011223344556677"]), json!([null, 7])] {
        assert!(extranonce(wrong.clone()).is_err(), "{wrong}");
    }
}

/// The example of the node's documentation of `eth_getWork`.
#[test]
fn published_work_of_a_node() {
    let line = r#"{"id":1,"jsonrpc":"2.0","result":[
        "0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef",
        "0x5EED00000000000000000000000000005EED0000000000000000000000000000",
        "0xd1ff1c01710000000000000000000000d1ff1c01710000000000000000000000"]}"#;
    let Ok(ethproxy::FromPool::Job(Some(Id::Number(1)), job)) =
        ethproxy::FromPool::decode(line.as_bytes())
    else {
        panic!()
    };
    assert_eq!(
        (job.header[..2].to_vec(), job.seed[..2].to_vec()),
        (vec![0x12, 0x34], vec![0x5e, 0xed])
    );
    assert_eq!(job.target.unwrap().to_be_bytes()[..3], [0xd1, 0xff, 0x1c]);
    assert_eq!(job.id, hex::encode(job.header));
    let with_height = line.replace("]}", r#","0x129cd8"]}"#);
    let Ok(ethproxy::FromPool::Job(_, job)) = ethproxy::FromPool::decode(with_height.as_bytes())
    else {
        panic!()
    };
    assert_eq!(job.height, Some(1_219_800));
}

#[test]
fn a_line_that_is_not_a_message_is_one_clear_error() {
    let wrong = |line: String| ethproxy::FromPool::decode(line.as_bytes()).unwrap_err().to_string();
    let hash = "ab".repeat(32);
    for (parts, error) in [
        (json!([]), "the job: header is not a string"),
        (json!(["0x12"]), "the job: header is not 32 bytes in hexadecimal digits"),
        (json!([hash, "0xzz"]), "the job: seed is not hexadecimal digits"),
        (
            json!([hash, hash, "0x0"]),
            "the job: target is not up to 32 bytes in hexadecimal digits, above 0",
        ),
        (
            json!([hash, hash, "ab".repeat(33)]),
            "the job: target is not up to 32 bytes in hexadecimal digits, above 0",
        ),
    ] {
        assert_eq!(wrong(json!({"id": 0, "result": parts}).to_string()), error);
    }
    let submit =
        json!({"id": 1, "method": "mining.submit", "params": ["u", "j", "001122334455667788"]});
    assert_eq!(
        stratum::Request::decode(submit.to_string().as_bytes()).unwrap_err().to_string(),
        "mining.submit: nonce is not up to 8 bytes in hexadecimal digits"
    );
}

#[test]
fn targets_have_the_highest_byte_first() {
    let mut bytes = [0; 32];
    (bytes[0], bytes[31]) = (0x80, 0xff);
    let target = Target::from_be_bytes(bytes);
    assert_eq!((target.to_be_bytes(), target.expected_hashes()), (bytes, 2));
    let difficulty = Difficulty::ONE.target().to_be_bytes();
    assert_eq!(hex::encode(difficulty), format!("00000000ffff{}", "0".repeat(52)));
}

fn target() -> impl Strategy<Value = Target> {
    any::<[u8; 32]>().prop_filter_map("above 0", |bytes| {
        (bytes != [0; 32]).then(|| Target::from_be_bytes(bytes))
    })
}

fn job() -> impl Strategy<Value = Job> {
    let hashes = (any::<[u8; 32]>(), any::<[u8; 32]>());
    let ravencoin = (target(), any::<(Option<u64>, Option<u32>)>());
    (".{0,20}", hashes, prop::option::of(ravencoin), any::<bool>()).prop_map(
        |(id, (header, seed), ravencoin, clean)| {
            let (target, (height, bits)) =
                ravencoin.map_or((None, (None, None)), |(target, it)| (Some(target), it));
            Job { id, header, seed, target, height, bits, clean }
        },
    )
}

fn eth_work() -> impl Strategy<Value = Job> {
    (any::<([u8; 32], [u8; 32], Option<u64>)>(), target()).prop_map(
        |((header, seed, height), target)| Job {
            id: hex::encode(header),
            header,
            seed,
            target: Some(target),
            height,
            bits: None,
            clean: false,
        },
    )
}

fn is_common(call: &v1::Call) -> bool {
    !matches!(call, v1::Call::Subscribe { .. } | v1::Call::Submit(_))
}

fn stratum_call() -> impl Strategy<Value = stratum::Call> {
    use stratum::Call;
    prop_oneof![
        (".{0,20}", prop::option::of(".{0,20}"))
            .prop_map(|(agent, version)| Call::Subscribe { agent, version }),
        (".{0,20}", ".{0,20}", bytes(8), any::<Option<([u8; 32], [u8; 32])>>()).prop_map(
            |(user, job, nonce, solution)| {
                Call::Submit(stratum::Submit { user, job, nonce, solution })
            }
        ),
        Just(Call::SubmitHashrate),
        call().prop_filter("the rest is Stratum v1's", is_common).prop_map(Call::V1),
    ]
}

fn eth_call() -> impl Strategy<Value = ethproxy::Call> {
    use ethproxy::Call;
    prop_oneof![
        (".{0,20}", ".{0,20}").prop_map(|(user, password)| Call::Login { user, password }),
        Just(Call::GetWork),
        Just(Call::SubmitHashrate),
        any::<([u8; 8], [u8; 32], [u8; 32])>().prop_map(|(nonce, header, mix)| {
            Call::Submit(ethproxy::Submit { nonce, header, mix })
        }),
    ]
}

fn stratum_message() -> impl Strategy<Value = stratum::FromPool> {
    use stratum::FromPool;
    let is_common = |notice: &v1::Notice| {
        !matches!(notice, v1::Notice::Job(_) | v1::Notice::SetExtranonce { .. })
    };
    prop_oneof![
        job().prop_map(FromPool::Job),
        target().prop_map(FromPool::SetTarget),
        bytes(7).prop_map(FromPool::SetExtranonce),
        notice()
            .prop_filter("the rest is Stratum v1's", is_common)
            .prop_map(|notice| FromPool::V1(v1::FromPool::Notice(notice))),
    ]
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were(
        id in id(), call in stratum_call(), eth_call in eth_call(), worker in prop::option::of(".{0,20}"),
    ) {
        let request = stratum::Request { id: id.clone(), call };
        prop_assert_eq!(stratum::Request::decode(request.encode().as_bytes()), Ok(request));
        let request = ethproxy::Request { id, worker, call: eth_call };
        prop_assert_eq!(ethproxy::Request::decode(request.encode().as_bytes()), Ok(request));
    }

    #[test]
    fn messages_come_back_as_they_were(
        message in stratum_message(), id in prop::option::of(id()), work in eth_work(),
        failure in failure(), yes: bool,
    ) {
        prop_assert_eq!(stratum::FromPool::decode(message.encode().as_bytes()), Ok(message));
        for message in [
            ethproxy::FromPool::Job(id.clone(), work),
            ethproxy::FromPool::Reply(v1::Reply { id: id.clone(), result: Ok(yes.into()) }),
            ethproxy::FromPool::Reply(v1::Reply { id, result: Err(failure) }),
        ] {
            prop_assert_eq!(ethproxy::FromPool::decode(message.encode().as_bytes()), Ok(message));
        }
    }

    #[test]
    fn subscriptions_come_back_as_they_were(
        version in prop::option::of(".{0,20}"), extranonce in bytes(7),
    ) {
        let subscribed = stratum::Subscribed { version, extranonce };
        prop_assert_eq!(stratum::Subscribed::decode(&subscribed.encode()), Ok(subscribed));
    }

    #[test]
    fn no_message_with_wrong_bytes_makes_a_codec_panic(
        message in stratum_message(), call in stratum_call(), eth_call in eth_call(), work in eth_work(),
        at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let id = Id::Number(1);
        for line in [
            message.encode(),
            ethproxy::FromPool::Job(Some(id.clone()), work).encode(),
            stratum::Request { id: id.clone(), call }.encode(),
            ethproxy::Request { id, worker: None, call: eth_call }.encode(),
        ] {
            let mut bytes = line.into_bytes();
            let index = at.index(bytes.len());
            bytes[index] = byte;
            decode_all(&bytes);
            decode_all(&bytes[..cut.index(bytes.len())]);
        }
    }
}

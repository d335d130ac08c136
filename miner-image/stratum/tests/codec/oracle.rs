//! The codec for Stratum v1 against `sv1_api` of the Stratum reference implementation: each reads what
//! the other writes.

use daylight_stratum::{Id, v1};
use proptest::prelude::*;
use sv1_api::json_rpc::{Message, Response};
use sv1_api::methods::{Client2Server, Server2Client, server_to_client};

use crate::{job, submit};

proptest! {
    #[test]
    fn jobs(job in job("[a-z0-9]{1,9}", 200)) {
        let ours = v1::FromPool::Notice(v1::Notice::Job(job.clone()));
        let message: Message = serde_json::from_str(&ours.encode()).unwrap();
        let Server2Client::Notify(theirs) = message.try_into().unwrap() else {
            panic!("another message");
        };
        prop_assert_eq!(&theirs.job_id, &job.id);
        prop_assert_eq!(Vec::<u8>::from(theirs.prev_hash.clone()), job.previous.to_vec());
        prop_assert_eq!(Vec::<u8>::from(theirs.coin_base1.clone()), job.coinbase1);
        prop_assert_eq!(Vec::<u8>::from(theirs.coin_base2.clone()), job.coinbase2);
        let branches: Vec<_> = job.branches.iter().map(|branch| branch.to_vec()).collect();
        let theirs_of_it: Vec<_> = theirs.merkle_branch.iter().map(|node| node.as_ref().to_vec()).collect();
        prop_assert_eq!(theirs_of_it, branches);
        prop_assert_eq!((theirs.version.0, theirs.bits.0, theirs.time.0), (job.version, job.bits, job.time));
        prop_assert_eq!(theirs.clean_jobs, job.clean);

        let line = serde_json::to_string(&Message::from(theirs)).unwrap();
        prop_assert_eq!(v1::FromPool::decode(line.as_bytes()), Ok(ours));
    }

    #[test]
    fn shares(
        id: u64,
        submit in submit("[a-z.]{1,20}", "[a-z0-9]{1,9}", prop::collection::vec(any::<u8>(), 1..=16)),
    ) {
        let ours = v1::Request { id: Id::Number(id), call: v1::Call::Submit(submit.clone()) };
        let message: Message = serde_json::from_str(&ours.encode()).unwrap();
        let Client2Server::Submit(theirs) = message.try_into().unwrap() else {
            panic!("another message");
        };
        prop_assert_eq!((theirs.id, &theirs.user_name, &theirs.job_id), (id, &submit.user, &submit.job));
        prop_assert_eq!(Vec::<u8>::from(theirs.extra_nonce2.clone()), submit.extranonce2);
        prop_assert_eq!((theirs.time.0, theirs.nonce.0), (submit.time, submit.nonce));
        prop_assert_eq!(theirs.version_bits.as_ref().map(|bits| bits.0), submit.version_bits);

        let line = serde_json::to_string(&Message::from(theirs)).unwrap();
        prop_assert_eq!(v1::Request::decode(line.as_bytes()), Ok(ours));
    }

    #[test]
    fn subscriptions(extranonce1 in prop::collection::vec(any::<u8>(), 1..=16), extranonce2_size: u8) {
        let ours = v1::Subscribed { session: "a".into(), extranonce1, extranonce2_size };
        let reply = v1::Reply { id: Some(Id::Number(1)), result: Ok(ours.encode()) };
        let response: Response =
            serde_json::from_str(&v1::FromPool::Reply(reply).encode()).unwrap();
        let theirs = server_to_client::Subscribe::try_from(&response).unwrap();
        prop_assert_eq!(Vec::<u8>::from(theirs.extra_nonce1), ours.extranonce1);
        prop_assert_eq!(theirs.extra_nonce2_size, usize::from(ours.extranonce2_size));
    }

    #[test]
    fn difficulties(difficulty in 1e-6..1e15_f64) {
        let ours = v1::Notice::SetDifficulty(daylight_stratum::Difficulty::new(difficulty).unwrap());
        let message: Message =
            serde_json::from_str(&v1::FromPool::Notice(ours).encode()).unwrap();
        let Server2Client::SetDifficulty(theirs) = message.try_into().unwrap() else {
            panic!("another message");
        };
        prop_assert!((theirs.value - difficulty).abs() <= f64::EPSILON * difficulty);
    }
}

//! The forms in which pools write the same answers, as they were seen of real ones.

use super::random::Random;

/// Verdict of the pool on a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Rejected,
    /// Rejected, in words or a code that say that the job had expired.
    Stale,
}

/// Dialect of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V1,
    Monero,
}

/// `ID` stands for the number of the request.
type Shapes = &'static [&'static str];

const V1_ACCEPTED: Shapes = &[
    r#"{"id":ID,"result":true,"error":null}"#,
    r#"{"id":ID,"result":true,"error":false}"#,
    r#"{"id":ID,"result":true,"error":[]}"#,
    r#"{"id":ID,"result":true,"error":""}"#,
    r#"{"id":ID,"result":true,"error":{}}"#,
    r#"{"id":ID.0,"result":true,"error":null}"#,
    r#"{"id":"ID","result":true,"error":null}"#,
    r#"{"id":ID,"result":true,"error":null,"jsonrpc":"2.0","latency":3}"#,
];

const V1_REJECTED: Shapes = &[
    r#"{"id":ID,"result":null,"error":[23,"high-hash",null]}"#,
    r#"{"id":ID,"result":null,"error":[null,"x"]}"#,
    r#"{"id":ID,"result":null,"error":["22","Duplicate share",null]}"#,
    r#"{"id":ID,"result":null,"error":[20,null,null]}"#,
    r#"{"id":ID,"result":null,"error":{"code":-1}}"#,
    r#"{"id":ID,"result":null,"error":{"message":"Low diff share"}}"#,
    r#"{"id":ID,"result":null,"error":"Low difficulty"}"#,
    r#"{"id":ID,"result":false,"error":null}"#,
    r#"{"id":ID,"result":null,"error":23}"#,
    r#"{"id":ID,"error":[20,"No"]}"#,
];

const V1_STALE: Shapes = &[
    r#"{"id":ID,"result":null,"error":[21,"Job not found",""]}"#,
    r#"{"id":ID,"result":null,"error":"Stale share"}"#,
    r#"{"id":ID,"error":{"message":"Stale share"}}"#,
    r#"{"id":ID,"result":null,"error":{"code":-1,"message":"Block expired"}}"#,
    r#"{"reject-reason":"Stale","result":false,"error":null,"id":ID}"#,
    r#"{"id":ID,"result":null,"error":["21",null,null]}"#,
];

const V1_FORGOTTEN: Shapes = &[
    r#"{"id":ID,"result":null,"error":[24,"Unauthorized worker",null]}"#,
    r#"{"id":ID,"result":null,"error":[25,"Not subscribed",null]}"#,
    r#"{"id":ID,"result":null,"error":[-2,"Connection is not subscribed","Traceback"]}"#,
];

const MONERO_ACCEPTED: Shapes = &[
    r#"{"id":ID,"jsonrpc":"2.0","error":null,"result":{"status":"OK"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":false,"result":{"status":"OK"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":null,"result":{"status":"ok"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{},"result":true}"#,
    r#"{"id":ID,"jsonrpc":"2.0","result":{"status":"OK"}}"#,
    r#"{"id":ID.0,"result":{"status":"OK"}}"#,
    r#"{"id":"ID","result":{"status":"OK"}}"#,
];

const MONERO_REJECTED: Shapes = &[
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-1,"message":"Low difficulty share"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":"-32602","message":"x"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":null,"message":"x"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-1}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"message":"Low diff share"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":null,"result":null}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":null}"#,
];

const MONERO_STALE: Shapes = &[
    r#"{"id":ID,"jsonrpc":"2.0","error":{"message":"Stale share"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-1,"message":"Block expired"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-1,"message":"Invalid job id"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":21,"message":""}}"#,
];

const MONERO_FORGOTTEN: Shapes = &[
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-1,"message":"Unauthenticated"}}"#,
    r#"{"id":ID,"jsonrpc":"2.0","error":{"code":-1,"message":"Your IP is banned"}}"#,
];

/// Lines that concern no request and that no client can read, or has to.
pub(super) const JUNK: &[&[u8]] = &[
    b"hello",
    b"[1,2]",
    b"null",
    b"{}",
    b"\x16\x03\x01\xff\xfe{]\0",
    br#"{"id":null,"result":[],"error":true}"#,
    br#"{"id":-1,"result":true,"error":null}"#,
    br#"{"id":123456789,"result":true,"error":null}"#,
    br#"{"id":null,"method":"client.show_message","params":[]}"#,
    br#"{"id":null,"method":"client.get_version","params":[]}"#,
    br#"{"id":null,"method":"client.reconnect","params":["elsewhere.example","",0]}"#,
    br#"{"id":null,"method":"client.reconnect","params":["elsewhere.example","3333","0"]}"#,
    br#"{"id":null,"method":"mining.set_difficulty","params":[0]}"#,
    br#"{"id":null,"method":"mining.set_difficulty","params":[]}"#,
    br#"{"id":null,"method":"mining.set_extranonce","params":["08"]}"#,
    br#"{"id":null,"method":"mining.notify","params":["1","22"]}"#,
    br#"{"jsonrpc":"2.0","method":"job","params":{"job_id":"1","blob":"10"}}"#,
    br#"{"jsonrpc":"2.0","method":"job","params":null}"#,
];

/// One line, of those that no client can read at all. More than 32 in a row make a client leave.
pub(super) const UNREADABLE: &[u8] = b"hello";

impl Dialect {
    /// Returns an answer to the request of this number, without the line's end.
    pub(super) fn answer(self, random: &mut Random, verdict: Verdict, id: &str) -> String {
        let shapes = match (self, verdict) {
            (Self::V1, Verdict::Accepted) => V1_ACCEPTED,
            (Self::V1, Verdict::Rejected) => V1_REJECTED,
            (Self::V1, Verdict::Stale) => V1_STALE,
            (Self::Monero, Verdict::Accepted) => MONERO_ACCEPTED,
            (Self::Monero, Verdict::Rejected) => MONERO_REJECTED,
            (Self::Monero, Verdict::Stale) => MONERO_STALE,
        };
        random.one_of(shapes).replace("ID", id)
    }

    /// Returns a refusal of a share after which every client logs in again.
    pub(super) fn forgotten(self, random: &mut Random, id: &str) -> String {
        let shapes = match self {
            Self::V1 => V1_FORGOTTEN,
            Self::Monero => MONERO_FORGOTTEN,
        };
        random.one_of(shapes).replace("ID", id)
    }
}

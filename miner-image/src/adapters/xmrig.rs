//! xmrig: told by a file (<https://xmrig.com/docs/miner/config>), tells by its HTTP API
//! (<https://github.com/xmrig/xmrig/blob/master/doc/API.md>).

use serde_json::{Value, json};

use super::{Upstream, count, number, words};
use crate::figures::Figures;

pub(super) fn args() -> Vec<String> {
    words(["--config={config}"])
}

pub(super) fn file(upstream: &Upstream) -> String {
    json!({
        "autosave": false,
        "background": false,
        "colors": false,
        "http": {
            "enabled": true, "host": "127.0.0.1", "port": upstream.api_port, "restricted": true,
        },
        "pools": [{
            "algo": upstream.algorithm,
            "url": upstream.address(),
            "user": upstream.login,
            "pass": upstream.password,
            "rig-id": upstream.worker,
            "tls": upstream.tls,
            "keepalive": true,
        }],
    })
    .to_string()
}

/// `hashes_total` is what the accepted shares stand for. The connection's uptime begins with the
/// login.
pub(super) fn parse(answer: &Value) -> Figures {
    let good = count(answer, "/results/shares_good");
    let logged_in = number(answer, "/connection/uptime").map(|seconds| seconds > 0.0);
    Figures {
        connected: logged_in,
        authorised: logged_in,
        hashrate: answer.pointer("/hashrate/total/0").map(|rate| rate.as_f64().unwrap_or(0.0)),
        hashes: number(answer, "/results/hashes_total"),
        shares_accepted: good,
        shares_rejected: count(answer, "/results/shares_total")
            .zip(good)
            .map(|(all, good)| all.saturating_sub(good)),
        difficulty: number(answer, "/results/diff_current"),
        ..Figures::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `doc/api/2/summary.json` in xmrig's repository (6.17.1), without what is not
    /// read.
    const ANSWER: &str = r#"{
        "uptime": 106,
        "results": {
            "diff_current": 37638, "shares_good": 3, "shares_total": 3, "avg_time": 35,
            "hashes_total": 165638
        },
        "algo": "rx/0",
        "connection": {"pool": "some.pool:20064", "uptime": 106, "failures": 0, "diff": 37638},
        "version": "6.17.1-dev", "kind": "miner",
        "hashrate": {"total": [1207.19, 1210.82, null], "highest": 1316.85}
    }"#;

    #[test]
    fn its_documented_answer_is_understood() {
        let expected = Figures {
            connected: Some(true),
            authorised: Some(true),
            hashrate: Some(1207.19),
            hashes: Some(165_638.0),
            shares_accepted: Some(3),
            shares_rejected: Some(0),
            difficulty: Some(37_638.0),
            ..Figures::default()
        };
        assert_eq!(parse(&serde_json::from_str(ANSWER).unwrap()), expected);
    }
}

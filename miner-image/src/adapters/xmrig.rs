//! xmrig: <https://xmrig.com/docs/miner/config>,
//! <https://github.com/xmrig/xmrig/blob/master/doc/API.md>.

use serde_json::json;

use super::places::Places;
use super::upstream::Place;
use super::{Adapter, Answer, KnownSigns, Pools, Upstream};
use crate::config::RandomxMode;

/// Its `hashes_total` is the hashes that the accepted shares stand for. Its connection's uptime begins
/// with the login.
pub(super) static ADAPTER: Adapter = Adapter {
    args: "--config={config}",
    pools: Pools::File { content: file, password: true },
    login: "{wallet}",
    ethash: None,
    signs: KnownSigns::NONE,
    path: "/2/summary",
    answer: Answer::Places(&Places {
        hashrate: &["/hashrate/total/0"],
        hashes: Some("/results/hashes_total"),
        shares_accepted: Some("/results/shares_good"),
        shares_sent: Some("/results/shares_total"),
        difficulty: Some("/results/diff_current"),
        connected_for: Some("/connection/uptime"),
        logged_in_for: Some("/connection/uptime"),
        ..Places::NONE
    }),
};

fn file(upstream: &Upstream) -> String {
    let pool = |place: &Place| {
        json!({
            "algo": upstream.algorithm,
            "url": place.address(),
            "user": upstream.login,
            "pass": upstream.password,
            "rig-id": upstream.worker,
            "tls": place.tls(),
            "keepalive": true,
        })
    };
    let mut cpu = json!({
        // Without pages that the pod requests, the system may end a process that touches one.
        "huge-pages": upstream.huge_pages,
    });
    if let Some(threads) = upstream.threads {
        cpu["*"] = json!({ "threads": threads, "intensity": 1, "affinity": -1 });
    }
    let mode = match upstream.mode {
        None => "auto",
        Some(RandomxMode::Light) => "light",
        Some(RandomxMode::Fast) => "fast",
    };
    json!({
        "autosave": false,
        "background": false,
        "colors": false,
        "http": {
            "enabled": true, "host": "127.0.0.1", "port": upstream.api_port, "restricted": true,
        },
        // What it mines for its author goes to a pool of that, which is not declared. Programs that are
        // built with a minimum of their own still do so.
        "donate-level": 0,
        "cpu": cpu,
        "randomx": { "mode": mode },
        "pools": upstream.pools.iter().map(pool).collect::<Vec<_>>(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

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
        assert_eq!(ADAPTER.read(&serde_json::from_str(ANSWER).unwrap()), expected);
    }
}

//! bzminer: <https://github.com/bzminer/bzminer#cli>, with its section on `config.txt`, which has no place
//! for a password.

use serde_json::{Value, json};

use super::upstream::Place;
use super::{Adapter, Answer, EthashSchemes, KnownSigns, Pools, Upstream, count, number};
use crate::figures::{Device, Figures};

/// It must not write the files that it keeps next to its program, which are read-only.
pub(super) static ADAPTER: Adapter = Adapter {
    args: "-c {config} --pool_password x --no_watchdog --disable_index_html",
    pools: Pools::File { content: file, password: false },
    login: "{wallet}",
    ethash: Some(EthashSchemes::USUAL),
    signs: KnownSigns::NONE,
    path: "/status",
    answer: Answer::Code(read),
};

fn file(upstream: &Upstream) -> String {
    json!({
        "pool_configs": [{
            "algorithm": upstream.algorithm,
            "wallet": upstream.login,
            "url": upstream.pools.iter().map(Place::url).collect::<Vec<_>>(),
            "username": upstream.worker,
        }],
        "pool": [0],
        "rig_name": upstream.worker,
        "lock_config": true,
        "no_color": true,
        "http_enabled": true,
        "http_address": "127.0.0.1",
        "http_port": upstream.api_port,
    })
    .to_string()
}

/// Each device has a hashrate for each of its pools, and each pool its shares; of several, sums.
fn read(answer: &Value) -> Figures {
    let list = |name: &str| answer.get(name).and_then(Value::as_array);
    let shares = |result: &str| list("pools")?.iter().map(|pool| count(pool, result)).sum();
    let rejected: Option<u64> = shares("/rejected_solutions");
    let devices: Vec<Device> = list("devices")
        .into_iter()
        .flatten()
        .zip(0..)
        .map(|(entry, index)| device(entry, index))
        .collect();
    let by_devices =
        (!devices.is_empty()).then(|| devices.iter().filter_map(|device| device.hashrate).sum());
    let by_pools = || list("pools")?.iter().map(|pool| number(pool, "/hashrate")).sum();
    Figures {
        hashrate: by_devices.or_else(by_pools),
        shares_accepted: shares("/valid_solutions"),
        shares_rejected: rejected
            .map(|rejected| rejected + shares("/invalid_solutions").unwrap_or(0)),
        shares_stale: shares("/stale_solutions"),
        devices,
        ..Figures::default()
    }
}

fn device(device: &Value, index: u64) -> Device {
    let rates = device.get("hashrate").and_then(Value::as_array);
    Device {
        index,
        hashrate: rates.map(|rates| rates.iter().filter_map(Value::as_f64).sum()),
        ..Device::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool of version 9.0.0 (issue 67 of its repository), with other numbers where all were 0. No
    /// whole answer was found: the fields around the pools are those that two programs read, the miner
    /// statistics of a mining system of 2022 and a collector of 2026.
    const ANSWER: &str = r#"{
        "method": "fullstatus", "bzminer_version": "v21.0.3", "rig_name": "rig", "uptime_s": 286,
        "pools": [{
            "id": 0, "algorithm": "kawpow", "wallet": "0x0000000000000000000000000000000000000000",
            "url": ["stratum+tcp://yourpool:4444"], "username": "rig", "lhr_only": false,
            "test": false, "test_diff": 1, "test_iteration_ms": 15000, "max_connection_retries": 0,
            "delay_before_connection_retry": 3000, "current_url": "stratum+tcp://yourpool:4444",
            "status": 2, "message": "", "uptime": "0d 0h 4m 46s", "uptime_s": 286, "epoch": 0,
            "block": 0, "difficulty": 0, "pending_solutions": 0, "valid_solutions": 41,
            "invalid_solutions": 1, "rejected_solutions": 2, "total_solutions": 46,
            "stale_solutions": 3, "average": 0, "accepted_avg_seconds": 0, "power": 0,
            "hashrate": 60500000, "average_latency": 0
        }],
        "devices": [
            {"pool": [0], "hashrate": [30250000.5]},
            {"pool": [0], "hashrate": [30249999.5]}
        ]
    }"#;

    #[test]
    fn its_answer_is_understood() {
        let mut answer: Value = serde_json::from_str(ANSWER).unwrap();
        let figures = ADAPTER.read(&answer);
        assert_eq!(figures.hashrate, Some(60_500_000.0));
        assert_eq!((figures.shares_accepted, figures.shares_rejected), (Some(41), Some(3)));
        assert_eq!(figures.shares_stale, Some(3));
        let second = Device { index: 1, hashrate: Some(30_249_999.5), ..Device::default() };
        assert_eq!(figures.devices[1..], [second]);

        // Without devices the pools' hashrate counts; without pools nothing is known.
        answer.as_object_mut().unwrap().remove("devices");
        assert_eq!(ADAPTER.read(&answer).hashrate, Some(60_500_000.0));
        answer.as_object_mut().unwrap().remove("pools");
        assert_eq!(ADAPTER.read(&answer), Figures::default());
    }
}

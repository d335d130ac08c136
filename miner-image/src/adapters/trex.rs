//! T-Rex: <https://github.com/trexminer/T-Rex#usage>. The keys of its file are the names of its options,
//! and `pools`.

use serde_json::json;

use super::places::{DevicePlaces, Places};
use super::upstream::Place;
use super::{Adapter, Answer, EthashSchemes, KnownSigns, Pools, Upstream};

/// Its own watchdog would be a second process.
pub(super) static ADAPTER: Adapter = Adapter {
    args: "--config {config}",
    pools: Pools::File { content: file, password: true },
    login: "{wallet}",
    ethash: Some(EthashSchemes { ethereum_stratum: "stratum2", ethproxy: "stratum" }),
    // Issues #60 and #574 of the same repository.
    signs: KnownSigns {
        device_lost: &["Can't find nonce with device", "Can't stop device"],
        ..KnownSigns::NONE
    },
    path: "/summary",
    answer: Answer::Places(&Places {
        hashrate: &["/hashrate"],
        shares_accepted: Some("/accepted_count"),
        shares_rejected: Some("/rejected_count"),
        difficulty: Some("/difficulty"),
        devices: Some(DevicePlaces {
            list: "/gpus",
            index: "/device_id",
            name: "/name",
            hashrate: "/hashrate",
            temperature: "/temperature",
            power: "/power",
        }),
        ..Places::NONE
    }),
};

fn file(upstream: &Upstream) -> String {
    let pool = |place: &Place| {
        json!({
            "url": place.url(),
            "user": upstream.login,
            "pass": upstream.password,
            "worker": upstream.worker,
        })
    };
    json!({
        "pools": upstream.pools.iter().map(pool).collect::<Vec<_>>(),
        "algo": upstream.algorithm,
        "api-bind-http": format!("127.0.0.1:{}", upstream.api_port),
        "api-bind-telnet": "0",
        "api-read-only": true,
        "autoupdate": false,
        "no-watchdog": true,
        "no-color": true,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Device;

    /// An answer of version 0.6.3 as delawr0190/foreman-apps recorded it
    /// (`foreman-trex/…/json/Summary.java`), with two of its eight devices and without what is not
    /// read.
    const ANSWER: &str = r#"{
        "accepted_count": 10,
        "active_pool": {"difficulty": 8, "ping": 140, "retries": 0},
        "algorithm": "x16r", "api": "1.1", "difficulty": 32129.671888325327, "gpu_total": 8,
        "gpus": [
            {"device_id": 0, "fan_speed": 56, "gpu_id": 0, "hashrate": 19101584,
             "name": "GeForce GTX 1070 Ti", "power": 193, "temperature": 57, "vendor": "EVGA"},
            {"device_id": 1, "fan_speed": 52, "gpu_id": 1, "hashrate": 18800141,
             "name": "GeForce GTX 1070 Ti", "power": 194, "temperature": 53, "vendor": "EVGA"}
        ],
        "hashrate": 150645350, "name": "t-rex", "rejected_count": 0, "uptime": 31,
        "version": "0.6.3"
    }"#;

    #[test]
    fn its_recorded_answer_is_understood() {
        let figures = ADAPTER.read(&serde_json::from_str(ANSWER).unwrap());
        assert_eq!(figures.hashrate, Some(150_645_350.0));
        assert_eq!((figures.shares_accepted, figures.shares_rejected), (Some(10), Some(0)));
        let device = |index, hashrate, power, temperature| Device {
            index,
            name: Some("GeForce GTX 1070 Ti".into()),
            hashrate: Some(hashrate),
            temperature: Some(temperature),
            power: Some(power),
        };
        let expected = [device(0, 19_101_584.0, 193.0, 57.0), device(1, 18_800_141.0, 194.0, 53.0)];
        assert_eq!(figures.devices, expected);
    }
}

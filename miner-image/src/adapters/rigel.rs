//! Rigel: <https://github.com/rigelminer/rigel#usage>.

use super::places::{DevicePlaces, Places};
use super::upstream::Place;
use super::{Adapter, Answer, EthashSchemes, KnownSigns, Pools, Upstream};

/// Its own watchdog would be a second process.
pub(super) static ADAPTER: Adapter = Adapter {
    args: "--api-bind 127.0.0.1:{api_port} --no-watchdog --no-tui --no-colour",
    pools: Pools::Args(args),
    login: "{worker}",
    ethash: Some(EthashSchemes::USUAL),
    // Issues #122 and #256 of the same repository.
    signs: KnownSigns {
        device_lost: &["CUDA error: error code", "CUDA error: an internal driver error occurred"],
        ..KnownSigns::NONE
    },
    path: "/",
    answer: Answer::Places(&Places {
        hashrate: &["/hashrate/*"],
        shares_accepted: Some("/solution_stat/*/accepted"),
        shares_rejected: Some("/solution_stat/*/rejected"),
        shares_invalid: Some("/solution_stat/*/invalid"),
        devices: Some(DevicePlaces {
            list: "/devices",
            index: "/id",
            name: "/name",
            hashrate: "/hashrate/*",
            temperature: "/monitoring_info/core_temperature",
            power: "/monitoring_info/power_usage",
        }),
        ..Places::NONE
    }),
};

/// Pools after the first one are tried when those before fail.
fn args(upstream: &Upstream) -> Vec<String> {
    let Upstream { login, password, worker, .. } = upstream;
    let url = |place: &Place| match place.protocol() {
        // Its name for the same protocol.
        Some("stratum2") => place.url().replacen("stratum2", "ethstratum", 1),
        _ => place.url(),
    };
    let mut args: Vec<String> =
        upstream.pools.iter().flat_map(|place| ["--url".into(), url(place)]).collect();
    for (option, value) in [("--username", login), ("--password", password), ("--worker", worker)] {
        args.extend([option.into(), value.clone()]);
    }
    args.extend(upstream.algorithm.iter().flat_map(|name| ["--algorithm".into(), name.clone()]));
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Device;

    /// An answer of version 1.23.2 that a public test suite of a Rigel front end captured from a
    /// real card in 2026, without what is not read.
    const ANSWER: &str = r#"{
        "name": "Rigel", "version": "1.23.2", "uptime": 286, "algorithm": "xelishashv3",
        "devices": [{
            "id": 0, "selected": true, "name": "RTX 3080 Ti", "state": "mining",
            "solution_stat": {"xelishashv3": {"accepted": 1405, "rejected": 0, "invalid": 0}},
            "monitoring_info": {"core_temperature": 72, "memory_temperature": 88, "fan_speed": 83,
                "power_usage": 294.36225},
            "hashrate": {"xelishashv3": 12112.195564915472}
        }],
        "solution_stat": {"xelishashv3": {"accepted": 1405, "rejected": 0, "invalid": 0}},
        "hashrate": {"xelishashv3": 12112.195564915472}, "power_usage": 294.36225
    }"#;

    #[test]
    fn its_recorded_answer_is_understood() {
        let figures = ADAPTER.read(&serde_json::from_str(ANSWER).unwrap());
        assert_eq!(figures.hashrate, Some(12_112.195_564_915_472));
        assert_eq!((figures.shares_accepted, figures.shares_rejected), (Some(1405), Some(0)));
        let expected = Device {
            index: 0,
            name: Some("RTX 3080 Ti".into()),
            hashrate: Some(12_112.195_564_915_472),
            temperature: Some(72.0),
            power: Some(294.36225),
        };
        assert_eq!(figures.devices, [expected]);
    }
}

//! Rigel: told by its command line (<https://github.com/rigelminer/rigel#usage>), tells at `/`.

use serde_json::Value;

use super::{Upstream, count, measured, text, words};
use crate::figures::{Device, Figures};

/// The agent watches over it, so that its own watchdog, which is a second process, need not.
pub(super) fn args(upstream: &Upstream) -> Vec<String> {
    let (url, api) = (upstream.stratum(), upstream.api());
    let mut args = words([
        "--url",
        &url,
        "--username",
        &upstream.login,
        "--password",
        &upstream.password,
        "--worker",
        &upstream.worker,
        "--api-bind",
        &api,
        "--no-watchdog",
        "--no-tui",
        "--no-colour",
    ]);
    if let Some(algorithm) = &upstream.algorithm {
        args.extend(words(["--algorithm", algorithm]));
    }
    args
}

/// Figures are kept for each algorithm; of two that are mined at once the sum is given.
pub(super) fn parse(answer: &Value) -> Figures {
    let devices = answer.get("devices").and_then(Value::as_array);
    let shares = |result: &str| {
        let each = answer.get("solution_stat")?.as_object()?.values();
        each.map(|stat| stat.get(result)?.as_u64()).sum::<Option<u64>>()
    };
    Figures {
        hashrate: hashrate(answer),
        shares_accepted: shares("accepted"),
        shares_rejected: shares("rejected").zip(shares("invalid")).map(|(a, b)| a + b),
        devices: devices.into_iter().flatten().filter_map(device).collect(),
        ..Figures::default()
    }
}

fn hashrate(of: &Value) -> Option<f64> {
    Some(of.get("hashrate")?.as_object()?.values().filter_map(Value::as_f64).sum())
}

fn device(device: &Value) -> Option<Device> {
    Some(Device {
        index: count(device, "/id")?,
        name: text(device, "/name"),
        hashrate: hashrate(device),
        temperature: measured(device, "/monitoring_info/core_temperature"),
        power: measured(device, "/monitoring_info/power_usage"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let figures = parse(&serde_json::from_str(ANSWER).unwrap());
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

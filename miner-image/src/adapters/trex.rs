//! T-Rex: told by its command line (<https://github.com/trexminer/T-Rex#usage>), tells at
//! `/summary`.

use serde_json::Value;

use super::{Upstream, count, measured, number, text, words};
use crate::figures::{Device, Figures};

/// The agent watches over it, so that its own watchdog, which is a second process, need not.
pub(super) fn args(upstream: &Upstream) -> Vec<String> {
    let (url, api) = (upstream.stratum(), upstream.api());
    let mut args = words([
        "--url",
        &url,
        "--user",
        &upstream.login,
        "--pass",
        &upstream.password,
        "--worker",
        &upstream.worker,
        "--api-bind-http",
        &api,
        "--api-bind-telnet",
        "0",
        "--api-read-only",
        "--no-watchdog",
        "--no-color",
    ]);
    if let Some(algorithm) = &upstream.algorithm {
        args.extend(words(["--algo", algorithm]));
    }
    args
}

pub(super) fn parse(answer: &Value) -> Figures {
    let gpus = answer.get("gpus").and_then(Value::as_array);
    Figures {
        hashrate: number(answer, "/hashrate"),
        shares_accepted: count(answer, "/accepted_count"),
        shares_rejected: count(answer, "/rejected_count"),
        difficulty: number(answer, "/difficulty"),
        devices: gpus.into_iter().flatten().filter_map(device).collect(),
        ..Figures::default()
    }
}

fn device(gpu: &Value) -> Option<Device> {
    Some(Device {
        index: count(gpu, "/device_id")?,
        name: text(gpu, "/name"),
        hashrate: number(gpu, "/hashrate"),
        temperature: measured(gpu, "/temperature"),
        power: measured(gpu, "/power"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let figures = parse(&serde_json::from_str(ANSWER).unwrap());
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

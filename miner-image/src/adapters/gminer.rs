//! `GMiner`: <https://github.com/develsoftware/GMinerRelease>.

use super::places::{DevicePlaces, Places};
use super::{Adapter, Answer};

pub(super) static ADAPTER: Adapter = Adapter {
    args: "--server {host} --port {port} --user {login} --pass {password} --ssl {tls} \
           --api {api_port} --watchdog 0 --color 0",
    algorithm: Some("--algo"),
    tls: ["0", "1"],
    file: None,
    path: "/stat",
    answer: Answer::Places(&Places {
        hashrate: &["/devices/*/speed"],
        shares_accepted: Some("/total_accepted_shares"),
        shares_rejected: Some("/total_rejected_shares"),
        shares_invalid: Some("/total_invalid_shares"),
        shares_stale: Some("/total_stale_shares"),
        devices: Some(DevicePlaces {
            list: "/devices",
            index: "/gpu_id",
            name: "/name",
            hashrate: "/speed",
            temperature: "/temperature",
            power: "/power_usage",
        }),
        ..Places::NONE
    }),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Device, Figures};

    /// An answer of version 2.70 as a public monitoring script recorded it, without what is not
    /// read; the same fields are in the answer of 1.34 that delawr0190/foreman-apps tests with.
    const ANSWER: &str = r#"{
        "miner": "GMiner 2.70", "uptime": 34505, "algorithm": "Ethash",
        "total_accepted_shares": 529, "total_rejected_shares": 0, "total_stale_shares": 0,
        "total_invalid_shares": 0,
        "devices": [{
            "gpu_id": 0, "bus_id": "0000:01:00.0", "name": "3080", "speed": 72131151,
            "accepted_shares": 529, "rejected_shares": 0, "fan": 0, "temperature": 57,
            "temperature_limit": 90, "power_usage": 115
        }],
        "speed_rate_precision": 0, "speed_unit": "H/s", "power_unit": "H/W"
    }"#;

    #[test]
    fn its_recorded_answer_is_understood() {
        let expected = Figures {
            hashrate: Some(72_131_151.0),
            shares_accepted: Some(529),
            shares_rejected: Some(0),
            shares_stale: Some(0),
            devices: vec![Device {
                index: 0,
                name: Some("3080".into()),
                hashrate: Some(72_131_151.0),
                temperature: Some(57.0),
                power: Some(115.0),
            }],
            ..Figures::default()
        };
        assert_eq!(ADAPTER.read(&serde_json::from_str(ANSWER).unwrap()), expected);
    }
}

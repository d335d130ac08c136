//! `GMiner`: told by its command line (<https://github.com/develsoftware/GMinerRelease>), tells at
//! `/stat`.

use serde_json::Value;

use super::{Upstream, count, measured, number, text, words};
use crate::figures::{Device, Figures};

/// The agent watches over it, so that its own watchdog need not.
pub(super) fn args(upstream: &Upstream) -> Vec<String> {
    let (port, api) = (upstream.port.to_string(), upstream.api_port.to_string());
    let mut args = words([
        "--server",
        &upstream.host,
        "--port",
        &port,
        "--user",
        &upstream.login,
        "--pass",
        &upstream.password,
        "--ssl",
        if upstream.tls { "1" } else { "0" },
        "--api",
        &api,
        "--watchdog",
        "0",
        "--color",
        "0",
    ]);
    if let Some(algorithm) = &upstream.algorithm {
        args.extend(words(["--algo", algorithm]));
    }
    args
}

pub(super) fn parse(answer: &Value) -> Figures {
    let devices = answer.get("devices").and_then(Value::as_array);
    let rejected = count(answer, "/total_rejected_shares");
    let invalid = count(answer, "/total_invalid_shares").unwrap_or(0);
    Figures {
        hashrate: devices.map(|all| all.iter().filter_map(|gpu| number(gpu, "/speed")).sum()),
        shares_accepted: count(answer, "/total_accepted_shares"),
        shares_rejected: rejected.map(|rejected| rejected + invalid),
        shares_stale: count(answer, "/total_stale_shares"),
        devices: devices.into_iter().flatten().filter_map(device).collect(),
        ..Figures::default()
    }
}

fn device(gpu: &Value) -> Option<Device> {
    Some(Device {
        index: count(gpu, "/gpu_id")?,
        name: text(gpu, "/name"),
        hashrate: number(gpu, "/speed"),
        temperature: measured(gpu, "/temperature"),
        power: measured(gpu, "/power_usage"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(parse(&serde_json::from_str(ANSWER).unwrap()), expected);
    }
}

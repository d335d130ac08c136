//! `GMiner`: <https://github.com/develsoftware/GMinerRelease>. Its file is that of `sample_config.txt` in
//! its releases: `[common]`, and `[server]` for each pool.

use std::fmt::Write as _;

use super::places::{DevicePlaces, Places};
use super::upstream::Place;
use super::{Adapter, Answer, EthashSchemes, KnownSigns, Pools, Upstream};

pub(super) static ADAPTER: Adapter = Adapter {
    args: "--config {config}",
    pools: Pools::File { content: file, password: true },
    login: "{wallet}.{worker}",
    ethash: Some(EthashSchemes::USUAL),
    signs: KnownSigns::NONE,
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

fn file(upstream: &Upstream) -> String {
    let algorithm = upstream.algorithm.iter().map(|algorithm| format!("algo={algorithm}\n"));
    let mut file = format!(
        "[common]\n{}api={}\nwatchdog=0\ncolor=0\n",
        algorithm.collect::<String>(),
        upstream.api_port
    );
    let (login, password) = (&upstream.login, &upstream.password);
    for place in &upstream.pools {
        let Place { host, port, .. } = place;
        let ssl = u8::from(place.tls());
        let _ = write!(
            file,
            "\n[server]\nhost={host}\nport={port}\nuser={login}\npass={password}\nssl={ssl}\n"
        );
        // Its default for Ethash is EthProxy's.
        if let Some("ethstratum" | "stratum2") = place.protocol() {
            file.push_str("proto=stratum\n");
        }
    }
    file
}

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

//! lolMiner: <https://github.com/Lolliedieb/lolMiner-releases>.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    Adapter, Answer, EthashSchemes, KnownSigns, Pools, Upstream, count, measured, number, text,
};
use crate::figures::{Device, Figures};

/// Its watchdog ends it with exit code 42 when a device crashes. For its words see the issues #911 and
/// #2000 of the same repository.
pub(super) static ADAPTER: Adapter = Adapter {
    args: "--config {config} --apihost 127.0.0.1 --apiport {api_port} --watchdog exit --nocolor",
    pools: Pools::File { content: file, password: true },
    login: "{wallet}.{worker}",
    ethash: Some(EthashSchemes::USUAL),
    signs: KnownSigns {
        login_refused: &["Authorization problem on all configured pools"],
        device_lost: &["detected as crashed"],
        device_lost_exit: &[42],
    },
    path: "/",
    answer: Answer::Code(read),
};

/// Options as on its command line; of several pools, each with its login.
fn file(upstream: &Upstream) -> String {
    let mut file = String::new();
    if let Some(algorithm) = &upstream.algorithm {
        // It writes them in capitals.
        let _ = writeln!(file, "algo={}", algorithm.to_ascii_uppercase());
    }
    match upstream.first().protocol() {
        Some("ethstratum" | "stratum2") => file.push_str("ethstratum=ETHV1\n"),
        Some("ethproxy") => file.push_str("ethstratum=ETHPROXY\n"),
        _ => {}
    }
    let (login, password) = (&upstream.login, &upstream.password);
    for place in &upstream.pools {
        let (address, tls) = (place.address(), if place.tls() { "on" } else { "off" });
        let _ = write!(file, "pool={address}\nuser={login}\npass={password}\ntls={tls}\n");
    }
    file
}

/// Figures are kept for each algorithm; of two that are mined at once the sum is given, and for a
/// device the first. Rates are in a unit that the answer names by its factor.
fn read(answer: &Value) -> Figures {
    let Some(all) = answer.get("Algorithms").and_then(Value::as_array) else {
        return Figures::default();
    };
    let sum = |result: &str| all.iter().map(|one| count(one, result)).sum::<Option<u64>>();
    let rate =
        |one: &Value, path: &str| Some(number(one, path)? * number(one, "/Performance_Factor")?);
    let workers = answer.get("Workers").and_then(Value::as_array);
    let device = |(at, worker): (usize, &Value)| {
        Some(Device {
            index: count(worker, "/Index")?,
            name: text(worker, "/Name"),
            hashrate: all.first().and_then(|one| rate(one, &format!("/Worker_Performance/{at}"))),
            temperature: measured(worker, "/Core_Temp"),
            power: measured(worker, "/Power"),
        })
    };
    Figures {
        hashrate: all.iter().map(|one| rate(one, "/Total_Performance")).sum(),
        shares_accepted: sum("/Total_Accepted"),
        shares_rejected: sum("/Total_Rejected").zip(sum("/Total_Errors")).map(|(a, b)| a + b),
        shares_stale: sum("/Total_Stales"),
        devices: workers.into_iter().flatten().enumerate().filter_map(device).collect(),
        ..Figures::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer of version 1.92 that Arman Drismir shows in "Using an old PC to mine crypto"
    /// (2024), without what is not read.
    const ANSWER: &str = r#"{
        "Software": "lolMiner 1.92", "Session": {"Uptime": 3710}, "Num_Workers": 1,
        "Workers": [{
            "Index": 0, "Name": "NVIDIA GeForce GTX 1060 3GB", "Power": 86.117999999999995,
            "Core_Temp": 65, "Juc_Temp": 73, "Mem_Temp": 0, "Fan_Speed": 38
        }],
        "Num_Algorithms": 1,
        "Algorithms": [{
            "Algorithm": "NexaPoW", "Performance_Unit": "Mh\/s", "Performance_Factor": 1000000,
            "Total_Performance": 5.6549161744285845, "Total_Accepted": 68, "Total_Rejected": 0,
            "Total_Stales": 0, "Total_Errors": 0, "Worker_Performance": [5.65]
        }]
    }"#;

    #[test]
    fn its_recorded_answer_is_understood() {
        let expected = Figures {
            hashrate: Some(5_654_916.174_428_584),
            shares_accepted: Some(68),
            shares_rejected: Some(0),
            shares_stale: Some(0),
            devices: vec![Device {
                index: 0,
                name: Some("NVIDIA GeForce GTX 1060 3GB".into()),
                hashrate: Some(5_650_000.0),
                temperature: Some(65.0),
                power: Some(86.118),
            }],
            ..Figures::default()
        };
        assert_eq!(ADAPTER.read(&serde_json::from_str(ANSWER).unwrap()), expected);
    }
}

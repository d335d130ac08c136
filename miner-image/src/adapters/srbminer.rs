//! SRBMiner-MULTI: <https://github.com/doktor83/SRBMiner-Multi/blob/master/Parameters>.

use super::places::Places;
use super::upstream::Place;
use super::{Adapter, Answer, EthashSchemes, KnownSigns, Pools, Upstream};

pub(super) static ADAPTER: Adapter = Adapter {
    args: "--api-enable --api-port {api_port} --disable-worker-watchdog",
    pools: Pools::Args(args),
    login: "{worker}",
    ethash: Some(EthashSchemes::USUAL),
    signs: KnownSigns::NONE,
    path: "/",
    answer: Answer::Places(&Places {
        hashrate: &["/algorithms/*/hashrate/gpu/total", "/algorithms/*/hashrate/cpu/total"],
        shares_accepted: Some("/algorithms/*/shares/accepted"),
        shares_rejected: Some("/algorithms/*/shares/rejected"),
        difficulty: Some("/algorithms/0/pool/difficulty"),
        connected_for: Some("/algorithms/*/pool/uptime"),
        ..Places::NONE
    }),
};

/// An option has a value for each pool, with a comma between them, or for passwords an exclamation mark.
fn args(upstream: &Upstream) -> Vec<String> {
    let Upstream { pools, login, password, worker, algorithm, .. } = upstream;
    let each = |value: &dyn Fn(&Place) -> String| pools.iter().map(value).collect::<Vec<_>>();
    let mut options = vec![
        ("--pool", each(&Place::address).join(",")),
        ("--tls", each(&|place| place.tls().to_string()).join(",")),
        ("--wallet", each(&|_| login.clone()).join(",")),
        ("--worker", each(&|_| worker.clone()).join(",")),
        ("--password", each(&|_| password.clone()).join("!")),
    ];
    if pools.iter().any(|place| place.protocol().is_some()) {
        let mode = |place: &Place| match place.protocol() {
            Some("ethstratum") => "1".into(),
            Some("stratum2") => "2".into(),
            _ => "0".into(),
        };
        options.push(("--esm", each(&mode).join(",")));
    }
    options.extend(algorithm.iter().map(|name| ("--algorithm", name.clone())));
    options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    /// An answer of version 0.5.6 as delawr0190/foreman-apps recorded it
    /// (`SrbminerMultiCpuITest.java`), without what is not read.
    const ANSWER: &str = r#"{
        "rig_name": "SRBMiner-Multi-Rig", "miner_version": "0.5.6", "mining_time": 1368,
        "total_cpu_workers": 1, "total_gpu_workers": 0, "total_workers": 1, "gpu_devices": [],
        "algorithms": [{
            "id": 0, "name": "verushash",
            "pool": {"uptime": 1366, "difficulty": 0.0, "last_job_received": 45, "latency": 88},
            "shares": {"total": 15, "accepted": 15, "rejected": 0, "avg_find_time": 91},
            "hashrate": {
                "now": 206111.5149227829, "1min": 197190.38067646,
                "cpu": {"thread0": 206111.5149227829, "total": 206111.5149227829},
                "gpu": {"total": 0.0}
            }
        }]
    }"#;

    #[test]
    fn its_recorded_answer_is_understood() {
        let expected = Figures {
            connected: Some(true),
            hashrate: Some(206_111.514_922_782_9),
            shares_accepted: Some(15),
            shares_rejected: Some(0),
            difficulty: Some(0.0),
            ..Figures::default()
        };
        assert_eq!(ADAPTER.read(&serde_json::from_str(ANSWER).unwrap()), expected);
    }
}

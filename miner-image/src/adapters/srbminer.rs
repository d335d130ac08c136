//! SRBMiner-MULTI: told by its command line, tells at `/`
//! (<https://github.com/doktor83/SRBMiner-Multi/blob/master/Parameters>).

use serde_json::Value;

use super::{Upstream, number, words};
use crate::figures::Figures;

/// The agent watches over it, so that its own watchdog need not.
pub(super) fn args(upstream: &Upstream) -> Vec<String> {
    let (pool, api) = (upstream.address(), upstream.api_port.to_string());
    let mut args = words([
        "--pool",
        &pool,
        "--wallet",
        &upstream.login,
        "--worker",
        &upstream.worker,
        "--password",
        &upstream.password,
        "--tls",
        if upstream.tls { "true" } else { "false" },
        "--api-enable",
        "--api-port",
        &api,
        "--disable-worker-watchdog",
    ]);
    if let Some(algorithm) = &upstream.algorithm {
        args.extend(words(["--algorithm", algorithm]));
    }
    args
}

/// Figures are kept for each algorithm; of two that are mined at once the sum is given.
pub(super) fn parse(answer: &Value) -> Figures {
    let Some(all) = answer.get("algorithms").and_then(Value::as_array) else {
        return Figures::default();
    };
    let sum = |path: &str| all.iter().map(|algorithm| number(algorithm, path)).sum::<Option<f64>>();
    let hashrate = match (sum("/hashrate/gpu/total"), sum("/hashrate/cpu/total")) {
        (None, None) => None,
        (gpu, cpu) => Some(gpu.unwrap_or(0.0) + cpu.unwrap_or(0.0)),
    };
    let count = |path| sum(path).map(|count| count as u64);
    Figures {
        connected: sum("/pool/uptime").map(|seconds| seconds > 0.0),
        hashrate,
        shares_accepted: count("/shares/accepted"),
        shares_rejected: count("/shares/rejected"),
        difficulty: all.first().and_then(|first| number(first, "/pool/difficulty")),
        ..Figures::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(parse(&serde_json::from_str(ANSWER).unwrap()), expected);
    }
}

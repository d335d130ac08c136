//! The names on the wire. Images with agents of their own rely on them, so that a change here is a
//! change of the contract in `docs/miner.md` and `docs/metering.md`.

use daylight_agent_api::{Outcome, RECORD_KEY, env, http, metrics};

const MANUAL: &str = include_str!("../../../docs/miner.md");

#[test]
fn names_are_as_documented() {
    for (name, expected) in [
        (env::CONFIG, "DAYLIGHT_MINER_CONFIG"),
        (env::ENGINE, "ENGINE"),
        (env::ALGORITHM, "ALGORITHM"),
        (env::POOL_ENDPOINTS, "POOL_ENDPOINTS"),
        (env::POOL_PINS, "POOL_PINS"),
        (env::POOL_PASSWORD_FILE, "POOL_PASSWORD_FILE"),
        (env::WALLET_FILE, "WALLET_FILE"),
        (env::WALLET_SALT_FILE, "WALLET_SALT_FILE"),
        (env::WALLET_COMMITMENT, "WALLET_COMMITMENT"),
        (env::HUGE_PAGES, "HUGE_PAGES"),
        (env::DRAIN_SECONDS, "DRAIN_SECONDS"),
        (env::LEASE_SECONDS, "DAYLIGHT_LEASE_SECONDS"),
        (env::LISTEN, "DAYLIGHT_MINER_LISTEN"),
        (env::POD_ADDRESS, "pod:"),
        (env::POD_NAME, "POD_NAME"),
        (env::NODE_NAME, "NODE_NAME"),
        (http::METRICS_PATH, "/metrics"),
        (http::STATUS_PATH, "/status"),
        (http::READY_PATH, "/readyz"),
        (http::LIVE_PATH, "/livez"),
        (http::LEASE_HEADER, "daylight-lease"),
        (http::LEASE_RENEW, "renew"),
        (metrics::INFO, "daylight_miner_info"),
        (metrics::NOT_READY, "daylight_miner_not_ready"),
        (metrics::HASHRATE, "daylight_miner_hashrate"),
        (metrics::HASHES, "daylight_miner_hashes_total"),
        (metrics::SHARES, "daylight_miner_shares_total"),
        (metrics::EVIDENCE, "evidence"),
        (metrics::REASON, "reason"),
        (metrics::RESULT, "result"),
        (metrics::ACCEPTED, "accepted"),
        (RECORD_KEY, "daylight.dev/work"),
    ] {
        assert_eq!(name, expected);
        // The agent does not read NODE_NAME, which is in docs/concepts.md with the other variables.
        assert!(MANUAL.contains(name) || name == env::NODE_NAME, "docs/miner.md lacks {name}");
    }
    assert_eq!(http::PORT, 9735);
}

#[test]
fn exit_codes_are_as_documented() {
    let rows = MANUAL.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`').parse().ok()?))
    });
    let documented: Vec<(u8, Outcome)> = rows.collect();
    assert_eq!(documented.len(), 9);
    for (code, outcome) in documented {
        assert_eq!(outcome.exit_code(), code, "{outcome}");
    }
}

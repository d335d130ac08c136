//! Metrics in the Prometheus text format: base units, and the same names for all engines.

use std::fmt::{Display, Write as _};

use daylight_agent_api::{NotReady, metrics};

use crate::status::Status;

/// Returns the text of `/metrics`.
pub(crate) fn render(status: &Status, ready: Result<(), NotReady>) -> String {
    let mut text = Text(String::with_capacity(4096));
    let engine = ("engine", status.engine.as_str());
    let algorithm = ("algorithm", status.algorithm.as_deref().unwrap_or(""));
    let version = ("version", env!("CARGO_PKG_VERSION"));

    text.family(metrics::INFO, "gauge", "The engine that runs, and the agent's version.");
    let evidence = (metrics::EVIDENCE, &*status.evidence.to_string());
    text.sample(metrics::INFO, &[engine, algorithm, evidence, version], 1);
    let is_ready = u8::from(ready.is_ok());
    text.one(
        "daylight_miner_ready",
        "gauge",
        "1 while connected, authorised and hashing.",
        is_ready,
    );
    if let Err(reason) = ready {
        text.family(metrics::NOT_READY, "gauge", "1 with the reason, while not ready.");
        text.sample(metrics::NOT_READY, &[(metrics::REASON, &reason.to_string())], 1);
    }
    text.one(
        "daylight_miner_uptime_seconds",
        "gauge",
        "Time since the agent started.",
        status.began.elapsed().as_secs_f64(),
    );
    text.one(
        "daylight_miner_engine_up",
        "gauge",
        "1 while the engine is running.",
        u8::from(status.run.is_some()),
    );
    text.one(
        "daylight_miner_engine_seconds_total",
        "counter",
        "Time in which the engine ran, all its runs together.",
        status.seconds(),
    );
    text.one(
        "daylight_miner_engine_restarts_total",
        "counter",
        "Restarts of the engine.",
        status.restarts,
    );

    text.family(metrics::SHARES, "counter", "Shares by the pool's answer.");
    let work = &status.work;
    for (result, total) in [
        (metrics::ACCEPTED, work.accepted),
        ("rejected", work.rejected),
        ("stale", work.stale),
        ("lost", work.lost),
    ] {
        text.sample(metrics::SHARES, &[(metrics::RESULT, result)], total.value());
    }
    text.family(
        metrics::HASHES,
        "counter",
        "Hashes computed, in the unit that the algorithm counts.",
    );
    text.sample(metrics::HASHES, &[algorithm], work.hashes.value());

    if let Some(figures) = status.figures() {
        text.maybe(
            "daylight_miner_pool_connected",
            "1 while the engine is connected to a pool.",
            figures.connected.map(f64::from),
        );
        text.maybe(
            "daylight_miner_pool_authorised",
            "1 while the pool accepts the login.",
            figures.authorised.map(f64::from),
        );
        text.maybe(
            "daylight_miner_share_difficulty",
            "Difficulty of a share, set by the pool.",
            figures.difficulty,
        );
        if let Some(pool) = &figures.pool {
            text.one(
                "daylight_miner_pool_logins_total",
                "counter",
                "Logins at pools since the engine started.",
                pool.logins,
            );
            text.one(
                "daylight_miner_pool_failovers_total",
                "counter",
                "Switches to another pool since the engine started.",
                pool.failovers,
            );
            text.one(
                "daylight_miner_pool_refused_redirects_total",
                "counter",
                "Refused redirects to undeclared hosts since the engine started.",
                pool.refused_redirects,
            );
            text.one(
                "daylight_miner_pool_unread_lines_total",
                "counter",
                "Lines of pools that could not be read and were passed over since the engine started.",
                pool.unread_lines,
            );
            text.maybe(
                "daylight_miner_pool_latency_seconds",
                "Time from the last request to the pool's reply.",
                pool.latency_seconds,
            );
        }
        if let Some(rate) = figures.hashrate {
            text.family(metrics::HASHRATE, "gauge", "Hashes per second.");
            text.sample(metrics::HASHRATE, &[algorithm], rate);
        }
        let devices = &figures.devices;
        let each = |number: &dyn Fn(usize) -> Option<f64>| {
            (0..devices.len()).filter_map(|at| Some((devices[at].index, number(at)?))).collect()
        };
        text.devices(
            "daylight_miner_device_hashrate",
            "Hashes per second of a device.",
            each(&|at| devices[at].hashrate),
        );
        text.devices(
            "daylight_miner_device_temperature_celsius",
            "Temperature of a device, as the engine reads it.",
            each(&|at| devices[at].temperature),
        );
        text.devices(
            "daylight_miner_device_power_watts",
            "Power of a device, as the engine reads it.",
            each(&|at| devices[at].power),
        );
    }

    text.maybe(
        "daylight_miner_dev_fee_ratio",
        "Share of the work that the engine does for its author.",
        status.dev_fee,
    );
    text.one(
        "daylight_miner_drain_grace_seconds",
        "gauge",
        "The grace period.",
        status.grace.as_secs_f64(),
    );
    text.maybe(
        "daylight_miner_drain_seconds",
        "Time since the drain began.",
        status.drain_began.map(|at| at.elapsed().as_secs_f64()),
    );
    text.maybe(
        "daylight_miner_lease_age_seconds",
        "Time since the lease was renewed.",
        status.lease_age.map(|age| age.as_secs_f64()),
    );
    text.one(
        "daylight_miner_log_lines_dropped_total",
        "counter",
        "Lines dropped at the limits of the log.",
        status.lines_dropped,
    );
    text.one(
        "daylight_miner_figures_failed_total",
        "counter",
        "Failed readings of the engine's figures.",
        status.failed_reads,
    );
    text.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn maybe(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.one(name, "gauge", help, value);
        }
    }

    fn devices(&mut self, name: &str, help: &str, values: Vec<(u64, f64)>) {
        if !values.is_empty() {
            self.family(name, "gauge", help);
        }
        for (index, value) in values {
            self.sample(name, &[("device", &index.to_string())], value);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EngineConfig};
    use crate::figures::{Device, Figures};
    use crate::status::Shared;

    #[test]
    fn another_reader_reads_it() {
        let engine = EngineConfig {
            algorithm: Some("sha\\256 \"d\"\n".into()),
            dev_fee: Some(0.01),
            ..EngineConfig::default()
        };
        let shared = Shared::new(&Config { engine, ..Config::default() });
        let mut status = shared.get();
        let device = |index| Device { index, power: Some(61.5), ..Device::default() };
        let figures = Figures {
            hashrate: Some(1.5e9),
            connected: Some(true),
            devices: vec![device(0), device(3)],
            ..Figures::default()
        };
        status.figures = Some((figures, status.began));
        let text = render(&status, Err(NotReady::NoFigures));
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let read = prometheus_parse::Scrape::parse(lines).unwrap();
        let value = |name: &str| {
            let found = read.samples.iter().find(|sample| sample.metric == name).unwrap();
            format!("{:?}", found.value)
        };
        assert_eq!(value("daylight_miner_hashrate"), "Gauge(1500000000.0)");
        assert_eq!(value("daylight_miner_pool_connected"), "Gauge(1.0)");
        assert_eq!(value("daylight_miner_dev_fee_ratio"), "Gauge(0.01)");
        assert_eq!(value("daylight_miner_engine_restarts_total"), "Counter(0.0)");
        let power = read.samples.iter().filter(|s| s.metric == "daylight_miner_device_power_watts");
        assert_eq!(power.count(), 2);
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(read.samples.len(), samples, "{text}");
    }
}

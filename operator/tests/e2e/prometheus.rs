//! A real Prometheus, and promtool, as Debian's package `prometheus` has them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daylight_test_site::eventually;
use daylight_test_site::program::get;
use serde_json::Value;
use tokio::process::Child;

/// Why the tests that need it cannot run here, if so.
pub(crate) fn missing() -> Option<String> {
    ["prometheus", "promtool"].into_iter().find_map(|program| {
        let runs = Command::new(program).arg("--version").output().is_ok();
        (!runs).then(|| format!("no {program} here: install the Debian package prometheus"))
    })
}

/// What promtool has to say of an exposition; nothing if it is as it should be.
pub(crate) fn lint(exposition: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads all of it before it says anything.
    promtool.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || !said.is_empty(), "{}", output.status);
    said
}

/// One that scrapes every second.
pub(crate) struct Prometheus {
    _child: Child,
    url: String,
    begun: SystemTime,
}

impl Prometheus {
    /// Scrapes these addresses. Its files go into the directory.
    pub(crate) async fn start(directory: &Path, targets: &[&str]) -> Self {
        Self::start_with(&directory.join("prometheus"), targets, &[]).await
    }

    /// Scrapes these addresses, and evaluates these files of rules every second. Its own files go into
    /// the directory.
    pub(crate) async fn start_with(directory: &Path, targets: &[&str], rules: &[String]) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        for (number, rules) in rules.iter().enumerate() {
            std::fs::write(directory.join(format!("{number}.rules")), rules).unwrap();
        }
        // The label is what the Prometheus operator gives to targets; ours has to survive it.
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"*.rules\"]\n\
             scrape_configs:\n\
             - job_name: daylight\n\
             \x20 honor_labels: true\n\
             \x20 static_configs: [{{targets: {targets:?}, labels: {{namespace: daylight-system}}}}]\n"
        );
        let path = directory.join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = File::create(directory.join("log")).unwrap();
        let child = tokio::process::Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://{address}");
        let prometheus = Self { _child: child, url, begun: SystemTime::now() };
        eventually(Duration::from_mins(1), "Prometheus scrapes", || async {
            let up = prometheus.instant("up == 1").ok()?;
            (up.len() == targets.len()).then_some(())
        })
        .await;
        prometheus
    }

    /// How long it has been scraping.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed().unwrap_or_default()
    }

    /// The series that a query gives now.
    pub(crate) fn instant(&self, asked: &str) -> Result<Vec<Value>, String> {
        query(&["instant", "-o", "json", &self.url, asked])
    }

    /// The alerts as they are shown, as JSON.
    pub(crate) async fn alerts(&self) -> String {
        let address = self.url.trim_start_matches("http://");
        let (code, alerts) = get(address, "/api/v1/alerts").await.unwrap();
        assert_eq!(code, 200, "{alerts}");
        alerts
    }

    /// The series that a query gives from the beginning until now, one value a second.
    pub(crate) fn range(&self, asked: &str) -> Result<Vec<Value>, String> {
        let begun = self.begun.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let start = format!("--start={begun}");
        query(&["range", "-o", "json", &start, "--step=1s", &self.url, asked])
    }
}

fn query(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let output = Command::new("promtool").arg("query").args(arguments).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))
}

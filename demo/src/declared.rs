//! The part of the story that is about declarations: figures are drafted, and a report is computed again
//! from its entries.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Error, LIMIT, MINER, Process, Result, Story};

impl Story<'_> {
    /// Shows the draft of a declaration, and a report of the same period that verifies offline.
    pub(super) async fn declared(&mut self, auditor: &Process) -> Result<()> {
        let (namespace, registration) = MINER.split_once('/').unwrap_or_default();
        let get = ["get", "declarations", "-n", namespace, "-o", "json"];
        let begun = Instant::now();
        let draft = loop {
            let json: Value =
                serde_json::from_str(&self.cluster.kubectl(&get).await?).unwrap_or_default();
            let all = json["items"].as_array().cloned().unwrap_or_default();
            let of_it = all.into_iter().find(|one| one["spec"]["registration"] == registration);
            if let Some(draft) = of_it.filter(|one| one["status"]["ledger"].is_object()) {
                break draft;
            }
            if begun.elapsed() > LIMIT {
                let sentence = format!("registration {MINER} has no declaration with figures");
                return Err(Error::new(sentence));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let text = |pointer: &str| draft.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
        let period = text("/spec/period").to_owned();
        let seen = format!(
            "{}: {}, {}",
            text("/metadata/name"),
            text("/status/gpuTime"),
            text("/status/energy")
        );
        let is_draft = text("/status/state") == "Draft";
        self.step("a declaration is drafted", None, seen, is_draft);

        let source = format!("http://{}/ledger", auditor.address());
        let public = self.secret("verifier").await?;
        let report = self.log.with_file_name("report").display().to_string();
        let names = self.log.with_file_name("journal").join("pseudonym.key").display().to_string();
        let zone = text("/spec/timeZone").to_owned();
        let write = ["report", &source, "--registration", MINER, "--period", &period];
        let by = ["--time-zone", &zone, "--pseudonym-key", &names, "--key", &public];
        self.cluster.daylight(&[&write[..], &by, &["--out", &report]].concat()).await?;
        let verify = ["report", "verify", &report, "--key", &public];
        let verified = self.cluster.daylight(&verify).await;
        let held = verified.is_ok();
        let seen = match verified {
            Ok(_) => format!("{report}/report.html, without the cluster"),
            Err(error) => error.to_string(),
        };
        self.step("a report of it is computed again from its entries", None, seen, held);
        Ok(())
    }
}

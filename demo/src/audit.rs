//! The part of the story about control: what is on record, and what is admitted.

use std::time::{Duration, Instant};

use crate::observer::Snapshot;
use crate::{Error, LIMIT, MINER, Process, Result, Story, file_beside, seconds};

/// A GPU pod that does not declare its class.
const UNDECLARED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: undeclared, namespace: ai-team}
spec:
  containers:
    - name: c
      image: docker.io/library/busybox:1.37
      resources: {limits: {nvidia.com/gpu: 1}}
";

/// A pod that mines without a Miner, and so without a registration.
const UNREGISTERED: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: unregistered
  namespace: tenant-a
  labels: {daylight.dev/activity: pow-mining}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: c
      image: registry.example.com/miners/kaspa:1.4
      resources: {limits: {nvidia.com/gpu: 1}}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
";

/// A tenant's user, with the rights that tenants have in their namespace.
const TENANT: &str = "bob@tenant-a.example";

/// The user who submitted the registration, here with all rights.
const SUBMITTER: &str = "alice@tenant-a.example";

/// The text that the API server puts before the message of a policy.
const BY_POLICY: &str = "denied request: ";

impl Story<'_> {
    /// Kills the auditor, ends miners while it is down, and starts another one on its journal.
    pub(super) async fn auditor_killed(&mut self, auditor: Process) -> Result<Process> {
        let before = booked(&auditor).await;
        auditor.kill().await?;
        self.line("Killed the auditor.");
        self.edit().await?;
        let begun = Instant::now();
        let auditor = self.start_auditor().await?;
        let settled =
            self.observer.until(LIMIT, |snapshot: &Snapshot| snapshot.unrecorded() == 0).await;
        // Its metrics show within seconds what it has booked again.
        let mut after = 0.0;
        while after < before && begun.elapsed() < LIMIT {
            tokio::time::sleep(Duration::from_millis(500)).await;
            after = booked(&auditor).await;
        }
        let seen = format!(
            "{before:.0} GPU-seconds on record before, {after:.0} after; the pods of all miners \
             that ended meanwhile are released"
        );
        let held = settled.is_some() && after >= before;
        self.step(
            "a killed auditor resumes from its journal",
            settled.map(|_| begun.elapsed()),
            seen,
            held,
        );
        Ok(auditor)
    }

    pub(super) async fn start_auditor(&self) -> Result<Process> {
        let journal = self.log.with_file_name("journal");
        self.cluster.start_auditor(&journal, &self.log.with_file_name("auditor.log")).await
    }

    /// Shows that pods which are not on the positive list are refused.
    pub(super) async fn admission(&mut self) -> Result<()> {
        let policies = self.policies()?;
        let path = self.file_of("policies.yaml", &policies)?;
        let path = path.to_string_lossy().into_owned();
        let binding = |name: &'static str, role: &'static str, user: &str| {
            ["create", "clusterrolebinding", name, role]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("--user={user}")])
                .collect::<Vec<_>>()
        };
        self.cluster.kubectl(&["apply", "-f", &path]).await?;
        self.cluster.kubectl(&binding("demo-tenant", "--clusterrole=edit", TENANT)).await?;
        self.cluster
            .kubectl(&binding("demo-submitter", "--clusterrole=cluster-admin", SUBMITTER))
            .await?;
        self.line("The admission policies are in force.");
        self.pod_refused("an undeclared GPU pod is refused", "undeclared", UNDECLARED, TENANT)
            .await?;
        self.pod_refused(
            "a miner without registration is refused",
            "unregistered",
            UNREGISTERED,
            TENANT,
        )
        .await?;
        let own = ["approve", MINER, "-m", "It is mine.", "--as", SUBMITTER];
        let refused = self.cluster.daylight_refused(&own).await;
        let sentence = refused.as_deref().and_then(|text| Some(text.split_once("Error: ")?.1));
        let held = sentence.is_some_and(|sentence| sentence.contains(SUBMITTER));
        let seen = sentence.unwrap_or("it was accepted").to_owned();
        self.step("approval by the submitter is refused", None, seen, held);
        for name in ["demo-tenant", "demo-submitter"] {
            self.cluster.kubectl(&["delete", "clusterrolebinding", name]).await?;
        }
        // Daylight runs as an administrator here, and not as the accounts that the policies know, so
        // the rest of the story is played without them.
        self.cluster.kubectl(&["delete", "-f", &path]).await?;
        Ok(())
    }

    async fn pod_refused(&mut self, what: &str, name: &str, pod: &str, user: &str) -> Result<()> {
        let path = self.file_of(&format!("{name}.yaml"), pod)?;
        let path = path.to_string_lossy().into_owned();
        let create = ["create", "--dry-run=server", "-f", &path, "--as", user];
        let begun = Instant::now();
        // A new policy takes effect a moment after it is created.
        let refused = loop {
            let refused = self.cluster.refused(&create).await?;
            if refused.is_some() || begun.elapsed() > LIMIT {
                break refused;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let held = refused.as_ref().is_some_and(|sentence| sentence.contains(BY_POLICY));
        let seen = refused.map_or_else(
            || format!("it was admitted for {}", seconds(begun.elapsed())),
            |sentence| last_sentence(&sentence),
        );
        self.step(what, None, seen, held);
        Ok(())
    }

    /// The policies of the installation, set to deny.
    fn policies(&self) -> Result<String> {
        let path = self.repository.join("docs/install/daylight.yaml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
        let is_policy = |part: &&str| part.contains("\nkind: ValidatingAdmissionPolicy");
        let policies: Vec<&str> = text.split("\n---\n").filter(is_policy).collect();
        Ok(policies
            .join("\n---\n")
            .replace("validationActions: [Audit]", "validationActions: [Deny]"))
    }

    pub(super) fn file_of(&self, name: &str, text: &str) -> Result<std::path::PathBuf> {
        file_beside(&self.log, name, text)
    }
}

/// Returns the GPU-seconds of all leases that an auditor has on record.
async fn booked(auditor: &Process) -> f64 {
    let scrape = auditor.scrape().await;
    scrape.map_or(0.0, |scrape| scrape.sum("daylight_assigned_gpu_seconds_total", &[]))
}

/// Returns the message of a refusal, without the names of the policies before it.
fn last_sentence(text: &str) -> String {
    let text = text.trim();
    text.rsplit_once(BY_POLICY).map_or(text, |(_, rest)| rest).to_owned()
}

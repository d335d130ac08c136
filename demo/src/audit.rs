//! The part of the story that auditors care for: what is on record, and what is let in.

use std::time::{Duration, Instant};

use crate::{LIMIT, MINER, Story, Told, file_beside, observer::Picture, seconds};
use crate::{Operator, Stopped};

/// A GPU pod that says nothing of its class.
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

/// Who submitted the registration, here with all rights that there are.
const SUBMITTER: &str = "alice@tenant-a.example";

/// What the API server says before the sentence of a policy.
const BY_POLICY: &str = "denied request: ";

impl Story<'_> {
    /// The auditor is killed, miners end without it, and another one goes on with its journal.
    pub(super) async fn auditor_killed(&mut self, auditor: Operator) -> Told<Operator> {
        let before = booked(&auditor).await;
        auditor.kill().await?;
        self.line("The auditor is killed.");
        self.edit().await?;
        let begun = Instant::now();
        let auditor = self.start_auditor().await?;
        let settled =
            self.observer.until(LIMIT, |picture: &Picture| picture.unrecorded() == 0).await;
        // Its metrics show what it has booked anew within seconds.
        let mut after = 0.0;
        while after < before && begun.elapsed() < LIMIT {
            tokio::time::sleep(Duration::from_millis(500)).await;
            after = booked(&auditor).await;
        }
        let seen = format!(
            "{before:.0} GPU-seconds on record before, {after:.0} after; every miner that ended \
             meanwhile is let go"
        );
        let held = settled.is_some() && after >= before;
        self.step(
            "a killed auditor goes on from its journal",
            settled.map(|_| begun.elapsed()),
            seen,
            held,
        );
        Ok(auditor)
    }

    pub(super) async fn start_auditor(&self) -> Told<Operator> {
        let journal = self.log.with_file_name("journal");
        self.cluster.start_auditor(&journal, &self.log.with_file_name("auditor.log")).await
    }

    /// What is not on the positive list is not let in.
    pub(super) async fn admission(&mut self) -> Told<()> {
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
        let held = sentence.is_some_and(|sentence| sentence.contains("somebody else"));
        let seen = sentence.unwrap_or("it was taken").to_owned();
        self.step("one's own approval is refused", None, seen, held);
        for name in ["demo-tenant", "demo-submitter"] {
            self.cluster.kubectl(&["delete", "clusterrolebinding", name]).await?;
        }
        // This story's programs run as an administrator, and not as the accounts that the policies
        // know; so what follows is played without them.
        self.cluster.kubectl(&["delete", "-f", &path]).await?;
        Ok(())
    }

    async fn pod_refused(&mut self, what: &str, name: &str, pod: &str, user: &str) -> Told<()> {
        let path = self.file_of(&format!("{name}.yaml"), pod)?;
        let path = path.to_string_lossy().into_owned();
        let create = ["create", "--dry-run=server", "-f", &path, "--as", user];
        let begun = Instant::now();
        // New policies take the API server a moment.
        let refused = loop {
            let refused = self.cluster.refused(&create).await?;
            if refused.is_some() || begun.elapsed() > LIMIT {
                break refused;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let held = refused.as_ref().is_some_and(|sentence| sentence.contains(BY_POLICY));
        let seen = refused.map_or_else(
            || format!("it was let in for {}", seconds(begun.elapsed())),
            |sentence| last_sentence(&sentence),
        );
        self.step(what, None, seen, held);
        Ok(())
    }

    /// The policies of the installation, all of them in force.
    fn policies(&self) -> Told<String> {
        let path = self.repository.join("docs/install/daylight.yaml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Stopped::new(format!("{}: {error}", path.display())))?;
        let is_policy = |part: &&str| part.contains("\nkind: ValidatingAdmissionPolicy");
        let policies: Vec<&str> = text.split("\n---\n").filter(is_policy).collect();
        Ok(policies
            .join("\n---\n")
            .replace("validationActions: [Audit]", "validationActions: [Deny]"))
    }

    pub(super) fn file_of(&self, name: &str, text: &str) -> Told<std::path::PathBuf> {
        file_beside(&self.log, name, text)
    }
}

/// The GPU-seconds of all leases that an auditor has on record.
async fn booked(auditor: &Operator) -> f64 {
    let scrape = auditor.scrape().await;
    scrape.map_or(0.0, |scrape| scrape.sum("daylight_assigned_gpu_seconds_total", &[]))
}

/// What a refusal says in the end, without the names of policies before it.
fn last_sentence(text: &str) -> String {
    let text = text.trim();
    text.rsplit_once(BY_POLICY).map_or(text, |(_, rest)| rest).to_owned()
}

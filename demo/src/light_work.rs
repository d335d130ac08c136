//! The part of the story that is about work without GPUs: a validator and a storage node, and who does
//! what.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Error, LIMIT, Process, Result, Story};

/// The volume of the storage node: the cluster makes none by itself.
const VOLUME: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: storage-node}
spec:
  capacity: {storage: 1Ti}
  accessModes: [ReadWriteOnce]
  claimRef: {namespace: tenant-a, name: storage-node}
  hostPath: {path: /var/lib/storage-node}
";

impl Story<'_> {
    /// Runs the examples of work without GPUs in addition to miners and AI, and shows who does what.
    pub(super) async fn light_work(&mut self, auditor: &Process) -> Result<()> {
        let volume = self.file_of("volume.yaml", VOLUME)?;
        self.cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), volume.as_os_str()]).await?;
        let begun = Instant::now();
        for file in ["60-validator", "70-storage-node"] {
            self.file(&format!("examples/{file}.yaml")).await?;
        }
        for name in ["tenant-a/validators", "tenant-a/storage"] {
            let approve = ["approve", name, "--generation", "1", "-m", "Filed and checked."];
            self.cluster.daylight(&approve).await?;
        }
        let url = format!("http://{}", auditor.address());
        let status = ["status", "--auditor", &url];
        let owner = loop {
            let json = self.cluster.daylight(&[&status[..], &["-o", "json"]].concat()).await?;
            let json: Value = serde_json::from_str(&json).unwrap_or_default();
            let owners = json["who"]["owners"].as_array().cloned().unwrap_or_default();
            let owner = owners.into_iter().find(|owner| owner["name"] == "Tenant A GmbH");
            let pods = |column: &str| {
                owner.as_ref().map_or(0, |it| it[column]["pods"].as_u64().unwrap_or(0))
            };
            // It mines, validates and stores.
            if pods("mining") > 0 && pods("finance") == 2 && pods("compute") == 1 {
                break owner.is_some();
            }
            if begun.elapsed() > LIMIT {
                return Err(Error::new(format!(
                    "the validators and the storage node do not show in the status: {json:#}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let seen = "2 validators and a storage node, without a pool";
        self.step("work without GPUs is on record", Some(begun.elapsed()), seen, owner);
        let text = self.cluster.daylight(&status).await?;
        let who = text.lines().skip_while(|line| !line.starts_with("OWNER"));
        let who: Vec<_> = who.take_while(|line| !line.is_empty()).collect();
        self.line(&who.join("\n"));
        Ok(())
    }
}

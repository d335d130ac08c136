//! The objects of the story with containers.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use daylight_testbed::{MINER_IMAGE, RealNode};

/// The wallet that is registered.
pub(super) const WALLET: &str = "bc1qexampleoftenanta";
/// Keeps others from finding the wallet by trying commitments.
const SALT: &str = "8d0f4c1b6a";

/// Returns the positive list, the pool of GPUs, and the tenant's objects: a registration that commits
/// to its wallet, the wallet, and eight miners for it.
pub(super) fn manifest(endpoint: &str) -> String {
    let digest = Sha256::new().chain_update(SALT).chain_update(WALLET).finalize();
    let commitment =
        digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let documents = [
        POLICY.to_owned(),
        format!(
            "
apiVersion: daylight.dev/v1alpha1
kind: Registration
metadata: {{name: bitcoin, namespace: tenant-a}}
spec:
  operator: {{name: Tenant A GmbH}}
  submittedBy: alice@tenant-a.example
  activityClass: pow-mining
  site: frankfurt-1
  pools: [frankfurt]
  validFrom: 2026-01-01T00:00:00Z
  validUntil: 2031-01-01T00:00:00Z
  limits: {{gpus: 8}}
  payout: {{asset: BTC, addressCommitment: '{commitment}'}}
"
        ),
        wallet("wallet", WALLET),
        miner("bitcoin", 8, 100, "wallet", endpoint),
    ];
    documents.join("---")
}

/// Returns a miner with another wallet, for a GPU that no other miner wants.
pub(super) fn impostor(endpoint: &str) -> String {
    let wallet = wallet("other-wallet", "bc1qsomebodyelse");
    [wallet, miner("impostor", 1, 1, "other-wallet", endpoint)].join("---")
}

const POLICY: &str = "
apiVersion: daylight.dev/v1alpha1
kind: ActivityClass
metadata: {name: ai-training}
spec: {category: DataIndustry, assignment: Guaranteed}
---
apiVersion: daylight.dev/v1alpha1
kind: ActivityClass
metadata: {name: pow-mining}
spec:
  category: Declared
  assignment: IdleOnly
  registration: Required
  rank: 100
  allowedImages: ['daylight.dev/miner*']
---
apiVersion: daylight.dev/v1alpha1
kind: GpuPool
metadata: {name: frankfurt}
spec:
  nodeSelector: {matchLabels: {nvidia.com/gpu.present: 'true'}}
  resource: nvidia.com/gpu
  site: {name: frankfurt-1}
  mining: {policy: Fill, idleDelay: 0s, drainTimeout: 10s}
";

fn wallet(name: &str, address: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: tenant-a}}
stringData: {{address: {address}, salt: {SALT}}}
"
    )
}

fn miner(name: &str, replicas: u32, weight: u32, wallet: &str, endpoint: &str) -> String {
    format!(
        "
apiVersion: daylight.dev/v1alpha1
kind: Miner
metadata: {{name: {name}, namespace: tenant-a}}
spec:
  registration: bitcoin
  replicas: {replicas}
  weight: {weight}
  image: {MINER_IMAGE}
  agent: Daylight
  engine: {{name: sha256d}}
  poolEndpoints: ['{endpoint}']
  walletSecretRef: {{name: {wallet}, key: address, saltKey: salt}}
  drainTimeout: 10s
  resources: {{cpu: 100m, memory: 64Mi}}
  env: [{{name: THREADS, value: '1'}}]
"
    )
}

/// Returns a pod that takes the whole node, and declares its class but uses nothing else of Daylight.
pub(super) fn ai_pod() -> Result<Pod, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {"name": "train", "labels": {"daylight.dev/activity": "ai-training"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "worker", "image": RealNode::IMAGE, "imagePullPolicy": "Never",
                "resources": {"limits": {"nvidia.com/gpu": "8"}},
            }],
        },
    }))
}

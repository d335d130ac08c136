//! The control plane with Daylight's charts installed, and the people and things that are there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use daylight_testbed::trials::{Fixture, Outcome, Shared, Trial};
use daylight_testbed::{Component, ControlPlane, Options};
use kube::Client;
use serde_json::{Value, json};

use crate::request::{AuditLog, Change, make, try_out};

/// Daylight's own namespace.
pub(crate) const SYSTEM: &str = "daylight-system";
/// The value that every installation must set.
pub(crate) const IMAGE: &str = "image.repository=registry.tenant.example/daylight";
/// Daylight's two accounts.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:daylight-system:daylight-controller";
pub(crate) const AUDITOR: &str = "system:serviceaccount:daylight-system:daylight-auditor";
/// Tenant A's engineer, who may do in the namespaces `tenant-a` and `labelled` all that a tenant may.
pub(crate) const TENANT: &str = "alice@tenant-a.example";
/// A service account of tenant A with the same rights.
pub(crate) const ROBOT: &str = "system:serviceaccount:tenant-a:robot";
/// Approves registrations.
pub(crate) const OFFICER: &str = "officer@example.com";
/// May do in every namespace what a tenant may in its own, and edit namespaces.
pub(crate) const OPERATOR: &str = "ops@example.com";

/// The control plane, and the charts on it.
pub(crate) struct Cluster {
    pub(crate) control_plane: ControlPlane,
    pub(crate) audit_log: AuditLog,
}

static CLUSTER: Shared<Cluster> = Shared::new(|| Box::pin(async { Ok(Cluster::start().await) }));

impl Fixture for Cluster {
    async fn lend(_: &Trial, test: impl AsyncFnOnce(&mut Self) -> Outcome) -> Outcome {
        CLUSTER.lend(test).await
    }
}

impl Cluster {
    async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("admission-{number}"));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let policy = directory.join("audit-policy.yaml");
        std::fs::write(&policy, AUDIT_POLICY).unwrap();
        let audit_log = AuditLog::new(&directory);
        let options = Options::full()
            .flag(Component::ApiServer, format!("--audit-policy-file={}", policy.display()))
            .flag(Component::ApiServer, format!("--audit-log-path={}", audit_log.path.display()));
        let control_plane = ControlPlane::start(options).await.unwrap();
        let this = Self { control_plane, audit_log };
        let definitions = chart("daylight-crds");
        this.helm(&["install", "daylight-crds", &definitions, "--create-namespace"]).await;
        // No image is there to run; what the controller does, tests do in its name.
        let daylight = chart("daylight");
        let mut install = vec!["install", "daylight", &daylight, "--set", IMAGE];
        install.extend(["--set", "controller.replicas=0", "--set", "admission.mode=Enforce"]);
        // The positive list is the one of people.yaml.
        install.extend(["--set", "presets.activityClasses=false"]);
        this.helm(&install).await;
        this.control_plane.apply(include_str!("people.yaml")).await.unwrap();
        this.lists(&registrations(), &classes()).await;
        this.things().await;
        this.wait_for_mode("Enforce").await;
        this
    }

    /// Runs helm in Daylight's namespace; it must succeed.
    pub(crate) async fn helm(&self, arguments: &[&str]) -> String {
        let arguments = arguments.iter().copied().chain(["--namespace", SYSTEM]);
        self.control_plane.helm_ok(arguments).await.unwrap()
    }

    pub(crate) fn admin(&self) -> Client {
        self.control_plane.client()
    }

    pub(crate) async fn client(&self, user: &str) -> Client {
        self.control_plane.client_for(user).await.unwrap()
    }

    /// Makes a change as a user; it must succeed.
    pub(crate) async fn make(&self, user: &str, change: &Change) -> Value {
        let answer = make(&self.client(user).await, change).await;
        assert!(answer.is_admitted(), "{user}: {change:?}: {}", answer.message());
        answer.body
    }

    /// Makes a change with all rights; it must succeed.
    pub(crate) async fn make_as_admin(&self, change: &Change) -> Value {
        let answer = make(&self.admin(), change).await;
        assert!(answer.is_admitted(), "{change:?}: {}", answer.message());
        answer.body
    }

    /// Sets the mode, and waits until the API server goes by it.
    pub(crate) async fn set_mode(&self, mode: &str) {
        let mode_flag = format!("admission.mode={mode}");
        let daylight = chart("daylight");
        self.helm(&["upgrade", "daylight", &daylight, "--reuse-values", "--set", &mode_flag]).await;
        self.wait_for_mode(mode).await;
    }

    /// Waits until the API server goes by every policy in this mode: it takes changes in one after
    /// the other, and notices no later than a few seconds after.
    async fn wait_for_mode(&self, mode: &str) {
        let begun = Instant::now();
        for attempt in crate::refused::attempts() {
            let client = self.client(attempt.who).await;
            let expected = if attempt.is_always() { "Enforce" } else { mode };
            // An attempt that stays on the wrong side is for the test to tell.
            while begun.elapsed() < Duration::from_secs(30)
                && try_out(&client, &attempt.change).await.mode() != expected
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Writes the lists that policies go by, as the controller does.
    pub(crate) async fn lists(&self, registrations: &Value, classes: &Value) {
        let client = self.client(CONTROLLER).await;
        for (name, entries) in [("registrations", registrations), ("classes", classes)] {
            let path = admission_lists();
            let _ = make(&client, &Change::delete(&format!("{path}/{name}"))).await;
            if entries.is_null() {
                continue;
            }
            let object = json!({
                "apiVersion": "daylight.dev/v1alpha1", "kind": "AdmissionList",
                "metadata": {"name": name}, "spec": {"entries": entries},
            });
            let answer = make(&client, &Change::create(&path, object)).await;
            assert!(answer.is_admitted(), "{name}: {}", answer.message());
        }
    }

    /// Pods, registrations and jobs that attempts aim at.
    async fn things(&self) {
        let pods = "/api/v1/namespaces/tenant-a/pods";
        let finalizers = json!(["daylight.dev/metered"]);
        let mut mine = miner("mine");
        mine["metadata"]["finalizers"] = finalizers.clone();
        self.make(CONTROLLER, &Change::create(pods, mine)).await;
        let mut done = miner("done");
        done["metadata"]["finalizers"] = finalizers;
        self.make(CONTROLLER, &Change::create(pods, done)).await;
        let ended = json!({"status": {"phase": "Succeeded"}});
        let done = make(&self.admin(), &Change::patch(&format!("{pods}/done/status"), ended)).await;
        assert!(done.is_admitted(), "{}", done.message());
        self.make(TENANT, &Change::create(pods, gpu_pod("training", Some("ai-training")))).await;
        let registrations = "/apis/daylight.dev/v1alpha1/namespaces/tenant-a/registrations";
        self.make(TENANT, &Change::create(registrations, registration("night", TENANT))).await;
        self.make(OFFICER, &Change::create(registrations, registration("own", OFFICER))).await;
        self.make(TENANT, &Change::create(registrations, registration("revoked", TENANT))).await;
        let revoked = json!({"status": {"approval": {
            "state": "Revoked", "by": OFFICER, "at": "2026-01-01T00:00:00Z", "generation": 1,
            "message": "because",
        }}});
        let path = format!("{registrations}/revoked/status");
        self.make(OFFICER, &Change::patch(&path, revoked)).await;
        let labelled = "/api/v1/namespaces/labelled/pods";
        self.make(TENANT, &Change::create(labelled, gpu_pod("inherits", None))).await;
        let api =
            |plural: &str| format!("/apis/daylight.dev/v1alpha1/namespaces/tenant-a/{plural}");
        let record = Change::create(&api("leaserecords"), lease_record("lease-known"));
        self.make(CONTROLLER, &record).await;
        for (name, state, submitted_by) in [
            ("ready", "Ready", TENANT),
            ("to-file", "Ready", TENANT),
            ("draft", "Draft", TENANT),
            ("filed", "Ready", TENANT),
            ("own", "Ready", OFFICER),
        ] {
            let create = Change::create(&api("declarations"), declaration(name, submitted_by));
            self.make(AUDITOR, &create).await;
            let status = format!("{}/{name}/status", api("declarations"));
            let figures = json!({"status": {
                "state": state, "ledger": {"origin": "log.example.com", "size": 7, "rootHash": ROOT},
            }});
            self.make(AUDITOR, &Change::patch(&status, figures)).await;
            if name == "filed" {
                self.make(OFFICER, &Change::patch(&status, filing(OFFICER))).await;
            }
        }
        for (plural, kind, spec) in [
            (
                "miners",
                "Miner",
                json!({
                    "registration": "night", "replicas": 1, "wattsPerReplica": 300,
                    "image": "registry.example.com/miners/kaspa:1",
                }),
            ),
            (
                "aijobs",
                "AIJob",
                json!({
                    "workers": 1, "activityClass": "ai-training",
                    "template": {"spec": gpu_pod("x", None)["spec"]},
                }),
            ),
        ] {
            let object = json!({
                "apiVersion": "daylight.dev/v1alpha1", "kind": kind,
                "metadata": {"name": "known"}, "spec": spec,
            });
            self.make(TENANT, &Change::create(&api(plural), object)).await;
        }
        // The Job of another owner.
        let job = json!({
            "metadata": {"name": "theirs"},
            "spec": {"suspend": true, "template": {
                "metadata": {"labels": {"daylight.dev/activity": "ai-training"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]},
            }},
        });
        let jobs = "/apis/batch/v1/namespaces/tenant-a/jobs";
        self.make(TENANT, &Change::create(jobs, job)).await;
    }
}

/// The path of a chart.
pub(crate) fn chart(name: &str) -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("charts").join(name).to_str().unwrap().to_owned()
}

/// The path of the lists that policies go by.
pub(crate) fn admission_lists() -> String {
    format!("/apis/daylight.dev/v1alpha1/namespaces/{SYSTEM}/admissionlists")
}

/// The approved registrations, as the controller lists them.
pub(crate) fn registrations() -> Value {
    json!({
        "tenant-a.night": "pow-mining 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z",
        "tenant-a.validator": "pos-validator 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z",
        "tenant-a.over": "pos-validator 2020-01-01T00:00:00Z 2021-01-01T00:00:00Z",
        "tenant-a.ahead": "pos-validator 2098-01-01T00:00:00Z 2099-01-01T00:00:00Z",
        "tenant-a.spoiled": "pos-validator since forever",
        "tenant-a.nodate": "pos-validator 2020-13-99T00:00:00Z 2099-01-01T00:00:00Z",
        "gpu-operator.night": "pow-mining 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z",
        "tenant-b.theirs": "pos-validator 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z",
    })
}

/// The positive list, as the controller lists it.
pub(crate) fn classes() -> Value {
    json!({
        "ai-training": "Guaranteed NotRequired",
        "ai-inference": "Guaranteed NotRequired",
        "ai-inference.images": "^(registry[.]example[.]com/serving/.*|registry[.]example[.]com/.*/serving:v1)$",
        "pos-validator": "Guaranteed Required",
        "pow-mining": "IdleOnly Required",
        "pow-mining.images": "^registry[.]example[.]com/miners/.*$",
        "prohibited-pow": "None NotRequired",
    })
}

/// A pod that runs an image and asks for nothing.
pub(crate) fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": image}]},
    })
}

/// A pod that asks for one GPU.
pub(crate) fn gpu_pod(name: &str, class: Option<&str>) -> Value {
    let mut pod = pod(name, "registry.example.com/train:1");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    if let Some(class) = class {
        pod["metadata"]["labels"] = json!({"daylight.dev/activity": class});
    }
    pod
}

/// A pod as Daylight starts it for a miner.
pub(crate) fn miner(name: &str) -> Value {
    let mut pod = gpu_pod(name, Some("pow-mining"));
    for (label, value) in
        [("registration", "night"), ("miner", "kaspa"), ("slot", "0"), ("epoch", "0")]
    {
        pod["metadata"]["labels"][format!("daylight.dev/{label}")] = json!(value);
    }
    pod["spec"]["priorityClassName"] = json!("daylight-miner");
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod["spec"]["containers"][0]["image"] = json!("registry.example.com/miners/kaspa:1");
    pod
}

/// A Job as Daylight creates it for an AIJob.
pub(crate) fn gang(name: &str, template: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "labels": {"daylight.dev/aijob": name, "daylight.dev/activity": "ai-training"},
            "ownerReferences": [{
                "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob", "name": name, "uid": "77aa",
                "controller": true,
            }],
        },
        "spec": {
            "suspend": true, "completionMode": "Indexed", "completions": 2, "parallelism": 2,
            "template": template,
        },
    })
}

pub(crate) fn lease_record(name: &str) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "LeaseRecord", "metadata": {"name": name},
        "spec": {
            "pod": "kaspa-0", "podUid": "5b1c", "node": "node-0000", "resource": "nvidia.com/gpu",
            "gpus": 1, "seenEndedAt": "2026-01-01T00:00:00Z",
        },
    })
}

/// The root hash of the declarations' figures.
pub(crate) const ROOT: &str = "n0FVwxZbXr8WmkBTdcPlQUnuHDOmGJveXjgMOARinP0=";

pub(crate) fn declaration(name: &str, submitted_by: &str) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Declaration", "metadata": {"name": name},
        "spec": {
            "registration": "night", "period": "2026-10", "timeZone": "Etc/UTC", "tzdata": "2026a",
            "start": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z",
            "dueAt": "2026-11-21T00:00:00Z", "submittedBy": submitted_by,
        },
    })
}

pub(crate) fn filing(by: &str) -> Value {
    json!({"status": {"filing": {
        "by": by, "at": "2026-11-03T00:00:00Z", "reference": "N-4711", "rootHash": ROOT,
    }}})
}

pub(crate) fn registration(name: &str, submitted_by: &str) -> Value {
    json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration",
        "metadata": {"name": name},
        "spec": {
            "operator": {"name": "Tenant A"}, "submittedBy": submitted_by,
            "activityClass": "pow-mining", "site": "site-1", "pools": ["frankfurt"],
            "validFrom": "2020-01-01T00:00:00Z", "validUntil": "2099-01-01T00:00:00Z",
            "limits": {"gpus": 8},
        },
    })
}

/// Who did what, and what admission noted of it; of Kubernetes' own components nothing.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: None
    users: [system:kube-scheduler, system:kube-controller-manager, kwok, system:apiserver]
  - level: Metadata
";

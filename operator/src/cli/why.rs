//! `daylight why KIND NAME`: explains the state of an object.

use std::fmt::Write as _;

use clap::Args;
use daylight_cluster::names::parts;
use daylight_cluster::slim;
use daylight_crds::{ActivityClass, AiJob, CONDITION_READY, GpuPool, Miner, Registration, labels};
use daylight_planner::explain::Reason;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::GetParams;
use kube::core::Request;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connect::{Connection, full_key, namespaced};
use super::error::{CommandError, ErrorCode};
use super::live_plan::LivePlan;
use super::output::Output;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Kind: gpupool, activityclass, registration, miner, aijob or pod
    kind: String,
    /// NAMESPACE/NAME; without a namespace, that of --namespace, or the context's
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The explanation of an object's state.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    kind: String,
    pub(super) name: String,
    /// The state, where the kind has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<String>,
    pub(super) reason: String,
    pub(super) message: String,
    /// The earliest time at which it may change by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) earliest: Option<String>,
    /// The time of the last change of the condition Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// A reason why the explanation may be out of date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caveat: Option<String>,
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let name = &flags.name;
    let explanation = match flags.kind.to_lowercase().as_str() {
        "gpupool" | "gpupools" | "gpool" | "pool" => {
            explain(&Api::<GpuPool>::all(client), name).await?
        }
        "activityclass" | "activityclasses" | "actclass" | "ac" | "class" => {
            explain(&Api::<ActivityClass>::all(client), name).await?
        }
        "registration" | "registrations" | "reg" => {
            explain_namespaced::<Registration>(&client, name).await?
        }
        "miner" | "miners" | "mnr" => explain_namespaced::<Miner>(&client, name).await?,
        "aijob" | "aijobs" | "aij" => explain_namespaced::<AiJob>(&client, name).await?,
        "pod" | "pods" | "po" => explain_pod(&client, connection, &full_key(&client, name)).await?,
        _ => {
            return Err(CommandError::new(format!("Daylight does not explain \"{}\"", flags.kind))
                .code(ErrorCode::Invalid)
                .remedy("Write gpupool, activityclass, registration, miner, aijob or pod"));
        }
    };
    flags.output.print(&explanation, text)
}

fn text(explanation: &Explanation) -> String {
    let Explanation { kind, name, state, reason, message, earliest, since, caveat } = explanation;
    let mut text = format!("{kind} {name}: {reason}\n");
    let mut line = |label: &str, value: Option<&String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {label:<10}{value}");
        }
    };
    line("why", Some(message));
    line("state", state.as_ref());
    line("since", since.as_ref());
    line("earliest", earliest.as_ref());
    line("note", caveat.as_ref());
    text
}

/// The fields by which a status explains its object.
pub(super) struct Summary<'a> {
    observed_generation: Option<i64>,
    conditions: &'a [Condition],
    state: Option<&'static str>,
    reason: Option<&'a String>,
    message: Option<&'a String>,
    earliest: Option<&'a Time>,
}

/// A kind whose status explains its objects.
pub(super) trait Explained:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug
{
    fn summary(&self) -> Option<Summary<'_>>;
}

/// Implements [`Explained`] for a status with a reason, given its state and its earliest time of change.
macro_rules! summary {
    ($kind:ty, |$status:ident| $state:expr, $earliest:expr) => {
        impl Explained for $kind {
            fn summary(&self) -> Option<Summary<'_>> {
                let $status = self.status.as_ref()?;
                Some(Summary {
                    observed_generation: $status.observed_generation,
                    conditions: &$status.conditions,
                    state: $state,
                    reason: $status.reason.as_ref(),
                    message: $status.message.as_ref(),
                    earliest: $earliest,
                })
            }
        }
    };
}

summary!(GpuPool, |status| status.policy.map(Into::into), status.next_change.as_ref());
summary!(Registration, |status| status.state.map(Into::into), None);
summary!(Miner, |status| None, status.eligible_at.as_ref());
summary!(AiJob, |status| status.state.map(Into::into), status.estimated_start.as_ref());

impl Explained for ActivityClass {
    fn summary(&self) -> Option<Summary<'_>> {
        let status = self.status.as_ref()?;
        Some(Summary {
            observed_generation: status.observed_generation,
            conditions: &status.conditions,
            state: None,
            reason: None,
            message: None,
            earliest: None,
        })
    }
}

/// Reads an object in a namespace and explains it by its status.
async fn explain_namespaced<K>(client: &Client, name: &str) -> Result<Explanation, CommandError>
where
    K: Explained + Resource<Scope = NamespaceResourceScope>,
{
    explain(&namespaced::<K>(client, name).0, &full_key(client, name)).await
}

/// Reads an object and explains it by its status.
async fn explain<K: Explained>(api: &Api<K>, name: &str) -> Result<Explanation, CommandError> {
    let object = api.get_opt(parts(name).1).await?;
    let object = object.ok_or_else(|| {
        CommandError::new(format!("There is no {} {name}", K::kind(&())))
            .code(ErrorCode::NotFound)
            .remedy("List the objects of Daylight with `kubectl get daylight -A`")
    })?;
    explanation(&object, name).ok_or_else(|| {
        CommandError::new(format!("The controller has not processed {} {name}", K::kind(&())))
            .code(ErrorCode::NotProcessed)
            .remedy("See with `daylight status` whether a controller leads")
    })
}

/// Returns what the controller wrote into the object's status; `None` before it wrote the condition
/// Ready.
pub(super) fn explanation<K: Explained>(object: &K, name: &str) -> Option<Explanation> {
    let Summary { observed_generation, conditions, state, reason, message, earliest } =
        object.summary()?;
    let ready = conditions.iter().find(|condition| condition.type_ == CONDITION_READY)?;
    let is_behind = observed_generation != object.meta().generation;
    Some(Explanation {
        kind: K::kind(&()).into_owned(),
        name: name.into(),
        state: state.map(str::to_owned),
        reason: reason.unwrap_or(&ready.reason).clone(),
        message: message.unwrap_or(&ready.message).clone(),
        earliest: earliest.map(|at| at.0.to_string()),
        since: Some(ready.last_transition_time.0.to_string()),
        caveat: is_behind.then(|| {
            "The object was edited, and the controller has not processed the edit.".into()
        }),
    })
}

/// Reads a pod and explains it: a miner's replica, a worker of an AIJob, or any other that requests
/// GPUs.
async fn explain_pod(
    client: &Client,
    connection: &Connection,
    name: &str,
) -> Result<Explanation, CommandError> {
    let pod = read_pod(client, name).await?;
    if let Some(explanation) = placed(&pod) {
        return Ok(explanation);
    }
    if let Some(node) = &pod.node {
        let class = pod_class(client, &pod).await?;
        return Ok(of_pod(&pod, "Bound", runs_on(node, &class)));
    }
    let live = LivePlan::make(client, &connection.namespace).await?;
    let report = live.plan.waiting_pods.iter().find(|report| report.pod == pod.key);
    let Some(report) = report else {
        return Ok(of_pod(
            &pod,
            Reason::SchedulerDecides.code(),
            "It requests no resource of a pool, so only kube-scheduler decides about it.".into(),
        ));
    };
    Ok(Explanation {
        earliest: report.reason.earliest().map(|at| at.to_string()),
        ..of_pod(&pod, report.reason.code(), report.reason.to_string())
    })
}

async fn read_pod(client: &Client, name: &str) -> Result<slim::Pod, CommandError> {
    let (api, pod_name) = namespaced::<Pod>(client, name);
    let request = Request::new(api.resource_url()).get(pod_name, &GetParams::default());
    let pod = client.request(request.map_err(kube::Error::BuildRequest)?).await;
    pod.map_err(|error| match error {
        kube::Error::Api(status) if status.is_not_found() => {
            CommandError::new(format!("There is no Pod {name}"))
                .code(ErrorCode::NotFound)
                .remedy("List them with `kubectl get pods -A`")
        }
        error => error.into(),
    })
}

/// The class that a pod counts under.
#[derive(Debug, PartialEq, Eq)]
enum PodClass {
    Own(String),
    Namespace(String),
    None,
    /// The pod has none of its own, and the user may not read its namespace.
    Unknown,
}

/// Returns the class of a pod: its own, or else its namespace's.
async fn pod_class(client: &Client, pod: &slim::Pod) -> Result<PodClass, CommandError> {
    if let Some(class) = &pod.activity {
        return Ok(PodClass::Own(class.to_string()));
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.get_opt(parts(&pod.key).0).await {
        Ok(namespace) => Ok(namespace
            .and_then(|namespace| namespace.labels().get(labels::ACTIVITY).cloned())
            .map_or(PodClass::None, PodClass::Namespace)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(PodClass::Unknown),
        Err(error) => Err(error.into()),
    }
}

fn runs_on(node: &str, class: &PodClass) -> String {
    match class {
        PodClass::Own(class) => format!("It runs on node {node} under the class {class}."),
        PodClass::Namespace(class) => {
            format!("It runs on node {node} under the class {class} of its namespace.")
        }
        PodClass::None => {
            format!("It runs on node {node}; neither it nor its namespace declares a class.")
        }
        PodClass::Unknown => format!(
            "It runs on node {node} and declares no class; you may not read whether its namespace \
             does."
        ),
    }
}

/// Explains a pod of a miner or an AIJob; `None` for any other.
fn placed(pod: &slim::Pod) -> Option<Explanation> {
    if let Some(lease) = &pod.lease {
        let reason = if pod.deletion.is_some() { "Stopping" } else { "Mines" };
        let slim::Lease { miner, registration, slot, .. } = &**lease;
        let node = pod.place().map_or("-", |node| &**node);
        let message = format!(
            "It is a replica of Miner {miner} under Registration {registration}, in slot {slot} of \
             node {node}. See `daylight why miner {miner}`."
        );
        return Some(of_pod(pod, reason, message));
    }
    if let Some(job) = &pod.ai_job {
        let message = format!("It is a worker of AIJob {job}. See `daylight why aijob {job}`.");
        return Some(of_pod(pod, "Worker", message));
    }
    None
}

fn of_pod(pod: &slim::Pod, reason: &str, message: String) -> Explanation {
    Explanation {
        kind: Pod::kind(&()).into_owned(),
        name: pod.key.to_string(),
        state: Some(pod.phase.to_string()),
        reason: reason.into(),
        message,
        earliest: None,
        since: Some(pod.created.to_string()),
        caveat: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const READY: &str = "2026-11-24T20:31:28Z";

    /// An object of the kind with a status as the controller writes it.
    fn object<K: Explained>(spec: &Value, status: &Value) -> K {
        let mut object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": "night", "namespace": "team-a", "generation": 3},
            "spec": spec,
            "status": {"observedGeneration": 3, "conditions": [{
                "type": "Ready", "status": "False", "reason": "FromReady", "message": "From Ready.",
                "lastTransitionTime": READY,
            }]},
        });
        object["status"].as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn explained<K: Explained>(spec: &Value, status: &Value) -> Explanation {
        explanation(&object::<K>(spec, status), "team-a/night").unwrap()
    }

    #[test]
    fn a_pool_is_explained_by_its_policy_and_next_change() {
        let spec = json!({
            "nodeSelector": {}, "resource": "nvidia.com/gpu",
            "site": {"name": "site-1", "timeZone": "Etc/UTC"},
        });
        let status = json!({
            "policy": "Hold", "reason": "WindowClosed", "message": "No window is open.",
            "nextChange": "2026-11-24T22:00:00Z",
        });
        assert_eq!(
            text(&explained::<GpuPool>(&spec, &status)),
            "GpuPool team-a/night: WindowClosed\n  why       No window is open.\n  \
             state     Hold\n  since     2026-11-24T20:31:28Z\n  earliest  2026-11-24T22:00:00Z\n"
        );
    }

    #[test]
    fn a_class_is_explained_by_its_condition() {
        let spec = json!({
            "category": "Declared", "assignment": "IdleOnly", "registration": "Required",
        });
        let explanation = explained::<ActivityClass>(&spec, &json!({}));
        assert_eq!((&*explanation.reason, &*explanation.message), ("FromReady", "From Ready."));
        assert_eq!((explanation.state, explanation.earliest), (None, None));
    }

    #[test]
    fn an_edit_that_the_controller_has_not_processed_is_noted() {
        let spec = json!({"registration": "night", "replicas": 1, "image": "miner"});
        let status = json!({"observedGeneration": 2, "eligibleAt": "2026-11-24T22:00:00Z"});
        let explanation = explained::<Miner>(&spec, &status);
        assert_eq!(explanation.earliest.as_deref(), Some("2026-11-24T22:00:00Z"));
        assert!(explanation.caveat.is_some());
        let json = serde_json::to_value(&explanation).unwrap();
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(names, ["caveat", "earliest", "kind", "message", "name", "reason", "since"]);
    }

    #[test]
    fn an_object_without_conditions_is_not_explained() {
        let spec = json!({
            "category": "Declared", "assignment": "IdleOnly", "registration": "Required",
        });
        let class = object::<ActivityClass>(&spec, &json!({"conditions": []}));
        assert_eq!(explanation(&class, "night"), None);
    }

    #[test]
    fn a_pod_that_has_its_gpus_is_explained_without_a_plan() {
        let pod = |labels: &Value, spec: &Value| -> slim::Pod {
            let pod = json!({
                "metadata": {
                    "name": "pod", "namespace": "team-a", "labels": labels,
                    "creationTimestamp": READY,
                },
                "spec": spec, "status": {"phase": "Running"},
            });
            serde_json::from_value(pod).unwrap()
        };
        let node = json!({"nodeName": "gpu-1"});
        let bound = pod(&json!({}), &node);
        assert_eq!(placed(&bound), None);
        assert_eq!(
            text(&of_pod(&bound, "Bound", runs_on("gpu-1", &PodClass::Own("ai-training".into())))),
            "Pod team-a/pod: Bound\n  why       It runs on node gpu-1 under the class \
             ai-training.\n  state     Running\n  since     2026-11-24T20:31:28Z\n"
        );
        let worker = placed(&pod(&json!({"daylight.dev/aijob": "llm"}), &json!({}))).unwrap();
        assert_eq!(
            worker.message,
            "It is a worker of AIJob team-a/llm. See `daylight why aijob team-a/llm`."
        );
        let labels = json!({
            "daylight.dev/miner": "power", "daylight.dev/registration": "night",
            "daylight.dev/pool": "hall-1", "daylight.dev/slot": "2",
        });
        let spec = json!({"nodeName": "gpu-1", "priorityClassName": "daylight-miner"});
        assert_eq!(
            placed(&pod(&labels, &spec)).unwrap().message,
            "It is a replica of Miner team-a/power under Registration team-a/night, in slot 2 of \
             node gpu-1. See `daylight why miner team-a/power`."
        );
        assert_eq!(placed(&pod(&json!({}), &json!({}))), None);
    }

    #[test]
    fn a_pod_counts_under_the_class_of_its_namespace() {
        for (class, sentence) in [
            (
                PodClass::Namespace("ai-training".into()),
                "It runs on node gpu-1 under the class ai-training of its namespace.",
            ),
            (
                PodClass::None,
                "It runs on node gpu-1; neither it nor its namespace declares a class.",
            ),
            (
                PodClass::Unknown,
                "It runs on node gpu-1 and declares no class; you may not read whether its \
                 namespace does.",
            ),
        ] {
            assert_eq!(runs_on("gpu-1", &class), sentence);
        }
    }
}

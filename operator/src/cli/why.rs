//! `daylight why KIND NAME`.

use std::fmt::Write as _;

use clap::Args;
use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner, Registration};
use daylight_planner::explain::Reason;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;

use super::connect::Connection;
use super::output::Output;
use super::{Failed, picture};
use daylight_cluster::names::parts;
use daylight_cluster::slim;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// gpupool, activityclass, registration, miner, aijob or pod
    kind: String,
    /// NAMESPACE/NAME, or the NAME of a gpupool or activityclass
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    output: Output,
}

/// Why an object is as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    kind: &'static str,
    name: String,
    /// How far it is, where the kind has such a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    reason: String,
    message: String,
    /// The earliest time at which it may change by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest: Option<String>,
    /// Since when it is ready, or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// What may make the explanation wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    caveat: Option<String>,
}

pub(super) async fn run(connection: &Connection, flags: &Flags) -> Result<(), Failed> {
    let client = connection.client().await?;
    let explanation = match flags.kind.to_lowercase().as_str() {
        "gpupool" | "gpupools" | "gpool" | "pool" => {
            let api: Api<GpuPool> = Api::all(client);
            explain("GpuPool", api, &flags.name, "nextChange").await?
        }
        "activityclass" | "activityclasses" | "actclass" | "ac" | "class" => {
            let api: Api<ActivityClass> = Api::all(client);
            explain("ActivityClass", api, &flags.name, "").await?
        }
        "registration" | "registrations" | "reg" => {
            let api: Api<Registration> = namespaced(&client, &flags.name)?;
            explain("Registration", api, &flags.name, "").await?
        }
        "miner" | "miners" | "mnr" => {
            let api: Api<Miner> = namespaced(&client, &flags.name)?;
            explain("Miner", api, &flags.name, "eligibleAt").await?
        }
        "aijob" | "aijobs" | "aij" => {
            let api: Api<AiJob> = namespaced(&client, &flags.name)?;
            explain("AIJob", api, &flags.name, "estimatedStart").await?
        }
        "pod" | "pods" | "po" => pod(&client, connection, &flags.name).await?,
        other => {
            return Err(Failed::new(format!(
                "{other:?} is no kind that Daylight explains; write gpupool, activityclass, \
                 registration, miner, aijob or pod."
            )));
        }
    };
    flags.output.print(&explanation, text)
}

fn text(explanation: &Explanation) -> String {
    let Explanation { kind, name, reason, message, .. } = explanation;
    let mut text = format!("{kind} {name}: {reason}\n");
    let mut line = |label: &str, value: &Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {label:<10}{value}");
        }
    };
    line("why", &Some(message.clone()));
    line("state", &explanation.state);
    line("since", &explanation.since);
    line("earliest", &explanation.earliest);
    line("note", &explanation.caveat);
    text
}

fn namespaced<K>(client: &Client, name: &str) -> Result<Api<K>, Failed>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    let (namespace, _) = parts(name);
    if namespace.is_empty() {
        return Err(Failed::new(format!(
            "{name:?} names no namespace; write NAMESPACE/NAME, such as team-a/{name}."
        )));
    }
    Ok(Api::namespaced(client.clone(), namespace))
}

/// What the controller wrote into the object's status.
async fn explain<K>(
    kind: &'static str,
    api: Api<K>,
    name: &str,
    earliest: &str,
) -> Result<Explanation, Failed>
where
    K: kube::Resource + Clone + Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let object = api.get_opt(parts(name).1).await?;
    let object = object.ok_or_else(|| {
        Failed::new(format!("There is no {kind} {name}; `kubectl get daylight -A` lists them."))
    })?;
    let value = serde_json::to_value(&object).unwrap_or_default();
    let status = &value["status"];
    let text = |field: &str| status[field].as_str().map(str::to_owned);
    let conditions: Vec<Condition> =
        serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let Some(ready) = ready else {
        return Err(Failed::new(format!(
            "Daylight's controller has not looked at {kind} {name} yet; `daylight status` says \
             whether one leads."
        )));
    };
    let seen = status["observedGeneration"].as_i64();
    let behind = seen != object.meta().generation;
    Ok(Explanation {
        kind,
        name: name.into(),
        state: text("state").or_else(|| text("policy")),
        reason: text("reason").unwrap_or(ready.reason),
        message: text("message").unwrap_or(ready.message),
        earliest: text(earliest),
        since: Some(ready.last_transition_time.0.to_string()),
        caveat: behind.then(|| {
            "The object was edited since, and the controller has not looked at the edit yet."
                .to_owned()
        }),
    })
}

/// A pod: a miner's replica, a worker of an AI job, or anybody's that asks for GPUs.
async fn pod(client: &Client, connection: &Connection, name: &str) -> Result<Explanation, Failed> {
    let api: Api<Pod> = namespaced(client, name)?;
    let pod = api.get_opt(parts(name).1).await?.ok_or_else(|| {
        Failed::new(format!("There is no Pod {name}; `kubectl get pods -A` lists them."))
    })?;
    let slim: slim::Pod = serde_json::to_value(&pod)
        .and_then(|value| serde_json::from_str(&value.to_string()))
        .map_err(|error| Failed::new(format!("Pod {name} cannot be read ({error}).")))?;
    let explained = |reason: &str, message: String| Explanation {
        kind: "Pod",
        name: name.into(),
        state: pod.status.as_ref().and_then(|status| status.phase.clone()),
        reason: reason.into(),
        message,
        earliest: None,
        since: pod.creation_timestamp().map(|at| at.0.to_string()),
        caveat: None,
    };
    if let Some(lease) = &slim.lease {
        return Ok(explained(
            if slim.deletion.is_some() { "Stopping" } else { "Mines" },
            format!(
                "It is a replica of Miner {} under Registration {}, in slot {} of node {}; \
                 `daylight why miner {}` says more.",
                lease.miner,
                lease.registration,
                lease.slot,
                slim.place().map_or("-", |node| &**node),
                lease.miner
            ),
        ));
    }
    if let Some(job) = &slim.ai_job {
        return Ok(explained(
            "Worker",
            format!("It is a worker of AIJob {job}; `daylight why aijob {job}` says more."),
        ));
    }
    if let Some(node) = &slim.node {
        let class = slim.activity.as_deref().unwrap_or("undeclared");
        return Ok(explained("Bound", format!("It runs on node {node}, as activity {class}.")));
    }
    let picture = picture::take(client, &connection.namespace).await?;
    let report = picture.plan.waiting_pods.iter().find(|report| *report.pod == *name);
    let Some(report) = report else {
        return Ok(explained(
            Reason::SchedulerDecides.code(),
            "It asks for no pool's resource, so Daylight leaves it to kube-scheduler.".into(),
        ));
    };
    let mut explanation = explained(report.reason.code(), report.reason.to_string());
    explanation.earliest =
        report.reason.earliest().and_then(crate::controller::executor::build::miner_pod::rfc3339);
    Ok(explanation)
}

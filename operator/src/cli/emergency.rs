//! `daylight stop` and `daylight resume`.

use std::collections::BTreeMap;

use clap::Args;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource as _};
use serde::Serialize;

use super::Failed;
use super::connect::{Connection, user};
use super::output::Output;
use daylight_cluster::well_known::EMERGENCY_STOP;

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Reason, which everyone whose miners stop can read
    #[arg(short, long)]
    message: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    /// Reason, to be recorded in the Event
    #[arg(short, long)]
    message: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// What was done, as it is printed.
#[derive(Debug, Serialize)]
struct Done {
    mining: &'static str,
    by: String,
    at: String,
    reason: String,
}

pub(super) async fn stop(connection: &Connection, flags: &Stop) -> Result<(), Failed> {
    let client = connection.client().await?;
    let namespace = &connection.namespace;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let (by, at) = (user(&client).await?, jiff::Timestamp::now().to_string());
    let data = BTreeMap::from([
        ("by".to_owned(), by.clone()),
        ("at".to_owned(), at.clone()),
        ("reason".to_owned(), flags.message.clone()),
    ]);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(EMERGENCY_STOP.into()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    };
    let params =
        PostParams { field_manager: Some("daylight/stop".into()), ..PostParams::default() };
    let made = match api.create(&params, &map).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let (by, at, reason) = read(&api.get(EMERGENCY_STOP).await?);
            return Err(Failed::new(format!(
                "Mining is stopped already, by {by} since {at} ({reason}); `daylight resume` lifts \
                 it."
            )));
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Err(Failed::new(format!(
                "There is no namespace {namespace}; give Daylight's own with --daylight-namespace."
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let note = format!("{by} stopped all mining: {}", flags.message);
    record(&client, &made, "MiningStopped", &note).await;
    let done = Done { mining: "Stopped", by, at, reason: flags.message.clone() };
    flags.output.print(&done, |done| {
        format!(
            "All mining is stopped, by {}; it stays so, across restarts, until `daylight resume`.\n",
            done.by
        )
    })
}

pub(super) async fn resume(connection: &Connection, flags: &Resume) -> Result<(), Failed> {
    let client = connection.client().await?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &connection.namespace);
    let Some(map) = api.get_opt(EMERGENCY_STOP).await? else {
        return Err(Failed::new(format!(
            "Mining is not stopped: there is no emergency stop in namespace {}.",
            connection.namespace
        )));
    };
    let (stopped_by, stopped_at, stopped_for) = read(&map);
    let (by, at) = (user(&client).await?, jiff::Timestamp::now().to_string());
    // Only the stop that was read is lifted, not one that somebody sets at this moment.
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: map.metadata.uid.clone(),
            resource_version: map.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    api.delete(EMERGENCY_STOP, &params).await?;
    let reason = flags.message.clone().unwrap_or_default();
    let note =
        format!("{by} lifted the stop of {stopped_by} since {stopped_at} ({stopped_for}) {reason}");
    record(&client, &map, "MiningResumed", note.trim_end()).await;
    let done = Done { mining: "Resumed", by, at, reason };
    flags.output.print(&done, |done| {
        format!("The stop of {stopped_by} is lifted by {}; idle GPUs mine again.\n", done.by)
    })
}

fn read(map: &ConfigMap) -> (String, String, String) {
    let get = |key: &str| {
        let value = map.data.as_ref().and_then(|data| data.get(key));
        value.cloned().unwrap_or_else(|| "unknown".into())
    };
    (get("by"), get("at"), get("reason"))
}

/// Leaves an Event of it. That this cannot be done stops nobody.
async fn record(client: &Client, map: &ConfigMap, reason: &str, note: &str) {
    let regarding: ObjectReference = map.object_ref(&());
    let namespace = map.metadata.namespace.clone().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{EMERGENCY_STOP}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some("daylight.dev/cli".into()),
        reporting_instance: Some("daylight".into()),
        action: Some("EmergencyStop".into()),
        reason: Some(reason.into()),
        note: Some(format!("{note:.1000}")),
        type_: Some("Warning".into()),
        regarding: Some(regarding),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::warn!(%error, "No Event of it could be left.");
    }
}

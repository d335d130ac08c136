//! `daylight stop` and `daylight resume`: set and lift the emergency stop.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use daylight_base::duration;
use daylight_crds::labels;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, Resource as _};
use serde::Serialize;

use super::connect::{Connection, user};
use super::error::{CommandError, ErrorCode};
use super::output::{Output, key_of};
use crate::failure::chain;
use daylight_cluster::well_known::EMERGENCY_STOP;

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Reason, which everyone whose miners stop can read
    #[arg(short, long)]
    message: String,
    /// Wait until no pod of a miner runs, for at most this long, such as 3m
    #[arg(long, value_parser = duration::parse)]
    wait: Option<Duration>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    /// Reason, to be recorded in the Event
    #[arg(short, long)]
    message: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The change that was made.
#[derive(Debug, Serialize)]
struct StopChange {
    mining: Mining,
    by: String,
    at: String,
    reason: String,
    /// After `--wait`, the pods of miners that still run, as `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Mining {
    Stopped,
    Resumed,
}

pub(super) async fn stop(connection: &Connection, flags: &Stop) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let namespace = &connection.namespace;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let (by, at) = (user(&client).await?, now());
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
    // Created, not applied: a second stop must not overwrite who set the first one, and why.
    let (by, at, reason) = match api.create(&params, &map).await {
        Ok(made) => {
            let note = format!("{by} stopped all mining: {}", flags.message);
            record(&client, &made, Mining::Stopped, &note).await;
            (by, at, flags.message.clone())
        }
        Err(kube::Error::Api(status)) if status.code == 409 && flags.wait.is_some() => {
            read(&api.get(EMERGENCY_STOP).await?)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let (by, at, reason) = read(&api.get(EMERGENCY_STOP).await?);
            let problem = format!("Mining is already stopped, by {by} since {at} ({reason})");
            let error = CommandError::new(problem).code(ErrorCode::Conflict);
            return Err(error.remedy("Lift the stop with `daylight resume`"));
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let error = CommandError::new(format!("There is no namespace {namespace}"));
            let error = error.code(ErrorCode::NotFound);
            return Err(error.remedy("Name Daylight's namespace with --daylight-namespace"));
        }
        Err(error) => return Err(error.into()),
    };
    let left = match flags.wait {
        Some(wait) => Some(miners_left(&client, wait).await?),
        None => None,
    };
    let change = StopChange { mining: Mining::Stopped, by, at, reason, left };
    flags.output.print(&change, stopped)
}

fn stopped(StopChange { by, left, .. }: &StopChange) -> String {
    let set = format!(
        "Emergency stop set by {by}: all mining ends, and stays ended across restarts until \
         `daylight resume`.\n"
    );
    match left.as_deref() {
        None => set,
        Some([]) => set + "All miners have ended.\n",
        Some(left) => {
            let pods = left.join(", ");
            set + &format!("Pods of miners still run: {pods}. Check that a controller leads.\n")
        }
    }
}

/// Pods that have not ended. One that has may still wait for the auditor to record it.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Waits until no pod of a miner runs, for at most `wait`, and returns those that do.
async fn miners_left(client: &Client, wait: Duration) -> Result<Vec<String>, CommandError> {
    let pods: Api<Pod> = Api::all(client.clone());
    let begun = Instant::now();
    loop {
        let running = ListParams::default().labels(labels::MINER).fields(NOT_ENDED);
        let left = pods.list_metadata(&running).await?;
        if left.items.is_empty() || begun.elapsed() >= wait {
            return Ok(left.items.iter().map(key_of).collect());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub(super) async fn resume(connection: &Connection, flags: &Resume) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &connection.namespace);
    let Some(map) = api.get_opt(EMERGENCY_STOP).await? else {
        let namespace = &connection.namespace;
        let error =
            CommandError::new(format!("There is no emergency stop in namespace {namespace}"));
        let error = error.code(ErrorCode::NotFound);
        return Err(error.remedy("Name Daylight's namespace with --daylight-namespace"));
    };
    let (stopped_by, stopped_at, stopped_for) = read(&map);
    let (by, at) = (user(&client).await?, now());
    // Lifts only the stop that was read, not one that another user sets meanwhile.
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: map.metadata.uid.clone(),
            resource_version: map.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    api.delete(EMERGENCY_STOP, &params).await?;
    let reason = flags.message.clone().unwrap_or_default();
    let note = format!(
        "{by} lifted the emergency stop that {stopped_by} set at {stopped_at} ({stopped_for}). \
         {reason}"
    );
    record(&client, &map, Mining::Resumed, note.trim_end()).await;
    let change = StopChange { mining: Mining::Resumed, by, at, reason, left: None };
    flags.output.print(&change, |change| {
        format!(
            "{} lifted the emergency stop that {stopped_by} set; idle GPUs mine again.\n",
            change.by
        )
    })
}

fn now() -> String {
    whole_seconds(jiff::Timestamp::now())
}

/// The time as people read it.
fn whole_seconds(at: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Returns who set the stop, when, and why. A stop that was created by hand may lack any of them.
fn read(map: &ConfigMap) -> (String, String, String) {
    let get = |key: &str| {
        let value = map.data.as_ref().and_then(|data| data.get(key));
        value.cloned().unwrap_or_else(|| "unknown".into())
    };
    let at = get("at");
    let at = at.parse::<jiff::Timestamp>().map_or(at, whole_seconds);
    (get("by"), at, get("reason"))
}

/// Writes an Event about the change. An error is only reported: the change is made.
async fn record(client: &Client, map: &ConfigMap, change: Mining, note: &str) {
    let event = event(map, change, note);
    let namespace = map.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        eprintln!("Cannot write the Event about the emergency stop: {}.", chain(&error));
    }
}

fn event(map: &ConfigMap, change: Mining, note: &str) -> Event {
    let regarding: ObjectReference = map.object_ref(&());
    let namespace = map.metadata.namespace.clone().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let (reason, type_) = match change {
        Mining::Stopped => ("MiningStopped", "Warning"),
        Mining::Resumed => ("MiningResumed", "Normal"),
    };
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{EMERGENCY_STOP}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some("daylight.dev/cli".into()),
        reporting_instance: Some("daylight".into()),
        action: Some("EmergencyStop".into()),
        reason: Some(reason.into()),
        note: Some(format!("{note:.1000}")),
        type_: Some(type_.into()),
        regarding: Some(regarding),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_the_change() {
        let [stopped, resumed] = [Mining::Stopped, Mining::Resumed].map(|mining| {
            let [by, at, reason] = ["ann", "2026-11-28T20:00:00Z", "smoke"].map(str::to_owned);
            serde_json::to_string(&StopChange { mining, by, at, reason, left: None }).unwrap()
        });
        let rest = r#""by":"ann","at":"2026-11-28T20:00:00Z","reason":"smoke"}"#;
        assert_eq!(stopped, format!(r#"{{"mining":"Stopped",{rest}"#));
        assert_eq!(resumed, format!(r#"{{"mining":"Resumed",{rest}"#));
    }

    #[test]
    fn a_stop_that_waited_names_the_pods_that_still_run() {
        let change = |left| StopChange {
            mining: Mining::Stopped,
            by: "ann".into(),
            at: "2026-11-28T20:00:00Z".into(),
            reason: "smoke".into(),
            left,
        };
        assert!(stopped(&change(None)).ends_with("until `daylight resume`.\n"));
        assert!(stopped(&change(Some(vec![]))).ends_with("All miners have ended.\n"));
        let left = stopped(&change(Some(vec!["team-a/one".into()])));
        assert!(left.contains("still run: team-a/one. Check"), "{left}");
        let json = serde_json::to_string(&change(Some(vec!["team-a/one".into()]))).unwrap();
        assert!(json.ends_with(r#""left":["team-a/one"]}"#), "{json}");
    }

    #[test]
    fn a_stop_warns_and_its_end_does_not() {
        let map = ConfigMap::default();
        let stopped = event(&map, Mining::Stopped, "ann stopped all mining: smoke");
        assert_eq!(stopped.type_.as_deref(), Some("Warning"));
        let resumed = event(&map, Mining::Resumed, "ann lifted the emergency stop.");
        assert_eq!(resumed.type_.as_deref(), Some("Normal"));
        assert_eq!(resumed.reason.as_deref(), Some("MiningResumed"));
        let at = [("at".to_owned(), "2026-11-29T16:58:07.929812529Z".to_owned())];
        let map = ConfigMap { data: Some(BTreeMap::from(at)), ..ConfigMap::default() };
        assert_eq!(read(&map).1, "2026-11-29T16:58:07Z");
    }
}

//! The definitions on a real API server: it accepts them and the examples, and refuses every object
//! of the tables with the message of the table.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod table;

use std::{process::ExitCode, sync::Arc};

use daylight_crds::definitions;
use daylight_testbed::trials::{Outcome, Trials, apply, trial};
use daylight_testbed::{ControlPlane, Options};
use kube::{
    Api, Client, Error,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use table::{Case, Step, Table, tables};

const CRDS: &str = env!("CARGO_MANIFEST_DIR");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

fn main() -> ExitCode {
    let mut trials = Trials::registered().sharing(|| Box::pin(start()));
    for table in tables().into_iter().map(Arc::new) {
        let cases = table.refused.iter().chain(&table.accepted).enumerate();
        for (number, case) in cases {
            let (table, case) = (table.clone(), case.clone());
            let verb = if case.message.is_empty() { "accepts" } else { "refuses" };
            let name = format!("{verb} {}: {}", table.kind(), case.name);
            trials = trials.case(name, async move |control_plane: &ControlPlane| {
                judge(control_plane, &table, case, number).await
            });
        }
    }
    trials.run()
}

async fn start() -> Outcome<ControlPlane> {
    let control_plane = ControlPlane::start(Options::api_server()).await?;
    let output = control_plane.kubectl(["apply", "-f", CRDS]).await?;
    let warnings = String::from_utf8_lossy(&output.stderr);
    expect(output.status.success() && warnings.is_empty(), warnings)?;
    let wait = ["wait", "--for", "condition=established", "crd", "--all"];
    control_plane.kubectl_ok(wait).await?;
    Ok(control_plane)
}

/// A second client-side apply changes nothing.
#[apply(trial!)]
async fn definitions_apply_again(control_plane: &ControlPlane) -> Outcome {
    let printed = control_plane.kubectl_ok(["apply", "-f", CRDS]).await?;
    let unchanged = printed.lines().filter(|line| line.ends_with(" unchanged")).count();
    expect(unchanged == definitions().len() && unchanged == printed.lines().count(), printed)
}

#[apply(trial!)]
async fn examples_apply_twice(control_plane: &ControlPlane) -> Outcome {
    for _ in 0..2 {
        let output = control_plane.kubectl(["apply", "-f", EXAMPLES]).await?;
        let warnings = String::from_utf8_lossy(&output.stderr);
        expect(output.status.success() && warnings.is_empty(), warnings)?;
    }
    let printed = control_plane.kubectl_ok(["get", "daylight", "-A"]).await?;
    for column in ["HEADROOM", "CATEGORY", "LIMITS USED", "REASON"] {
        expect(printed.contains(column), printed.clone())?;
    }
    let one_miner = [
        "get",
        "miners",
        "-n",
        "tenant-a",
        "-o",
        "name",
        "--field-selector",
        "spec.registration=kaspa",
    ];
    let printed = control_plane.kubectl_ok(one_miner).await?;
    expect(printed.trim() == "miner.daylight.dev/kaspa", printed)
}

/// Go clients and `kubectl create --dry-run -o yaml` write nulls and empty maps.
#[apply(trial!)]
async fn templates_written_by_programs_are_accepted(control_plane: &ControlPlane) -> Outcome {
    accepts_nulls(control_plane).await
}

async fn accepts_nulls(control_plane: &ControlPlane) -> Outcome {
    let job = |name: &str, created: &Value| {
        json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
            "metadata": {"name": name, "namespace": "default", "creationTimestamp": null},
            "spec": {
                "activityClass": "ai-training", "workers": 1,
                "template": {
                    "metadata": created,
                    "spec": {"containers": [{
                        "name": "c", "image": "registry.example.com/train:1",
                        "resources": {"limits": {"nvidia.com/gpu": 1}, "requests": {}},
                    }]},
                },
            },
            "status": {},
        })
    };
    let null = json!({"creationTimestamp": null, "labels": {"app": "generated"}});
    let without = json!({"labels": {"app": "generated"}});
    let file = |name: &str, created: &Value| -> Outcome<String> {
        let path = control_plane.directory().join(format!("{name}.json"));
        std::fs::write(&path, job(name, created).to_string())?;
        Ok(path.display().to_string())
    };
    // The same twice, and then by a program that leaves it out.
    for created in [&null, &null, &without] {
        let client_side = file("client-side", created)?;
        control_plane.kubectl_ok(["apply", "-f", &client_side]).await?;
        let server_side = file("server-side", created)?;
        control_plane.kubectl_ok(["apply", "--server-side", "-f", &server_side]).await?;
    }
    let jobs = api(&control_plane.client(), "AIJob");
    // Other nulls are dropped here.
    let mut posted = job("posted", &null);
    posted["spec"]["template"]["spec"]["containers"][0]["env"] = Value::Null;
    create(&jobs, &posted).await?;
    for name in ["client-side", "server-side", "posted"] {
        let job = jobs.get(name).await?;
        let labels = &job.data["spec"]["template"]["metadata"]["labels"];
        expect(*labels == json!({"app": "generated"}), name)?;
    }
    // Applying the same again changes nothing.
    let before = jobs.get("server-side").await?.metadata.generation;
    let same = file("server-side", &without)?;
    control_plane.kubectl_ok(["apply", "--server-side", "-f", &same]).await?;
    expect(jobs.get("server-side").await?.metadata.generation == before, "the second apply edits")?;
    let relabelled = file("server-side", &json!({"labels": {"app": "other"}}))?;
    let output = control_plane.kubectl(["apply", "--server-side", "-f", &relabelled]).await?;
    let error = String::from_utf8_lossy(&output.stderr);
    expect(error.contains("template is immutable"), error.clone())
}

#[apply(trial!)]
async fn kubectl_explains(control_plane: &ControlPlane) -> Outcome {
    let field = ["explain", "gpupool.spec.mining.headroom"];
    let printed = control_plane.kubectl_ok(field).await?;
    expect(printed.contains("Usable GPUs kept free of miners, so that AI work"), printed)
}

#[apply(trial!)]
async fn kubectl_scales_miners(control_plane: &ControlPlane) -> Outcome {
    let miner = json!({
        "apiVersion": "daylight.dev/v1alpha1",
        "kind": "Miner",
        "metadata": { "name": "scaled", "namespace": "default" },
        "spec": { "registration": "kaspa", "image": "registry.example.com/miners/kaspa:1" },
    });
    let miners = api(&control_plane.client(), "Miner");
    create(&miners, &miner).await?;
    control_plane.kubectl_ok(["scale", "miner/scaled", "--replicas=5"]).await?;
    let miner = miners.get("scaled").await?;
    expect(miner.data["spec"]["replicas"] == 5, miner.data.to_string())
}

/// The auditor writes usage and the controller the rest. Neither removes the other's fields.
#[apply(trial!)]
async fn two_writers_share_a_status(control_plane: &ControlPlane) -> Outcome {
    let registrations = api(&control_plane.client(), "Registration");
    let mut registration = valid("Registration");
    registration["metadata"]["name"] = json!("shared");
    create(&registrations, &registration).await?;

    let ready = |manager: &str, kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Tried", "message": manager,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let auditor = json!({
        "conditions": [ready("auditor", "Metered")],
        "usage": {
            "meteredUntil": "2026-01-02T00:00:00Z",
            "periodStart": "2026-01-01T00:00:00Z",
            "millijoules": "3600000000",
        },
    });
    let controller = json!({
        "conditions": [ready("controller", "Ready")],
        "state": "Pending",
        "held": { "gpus": 8, "watts": 3600 },
    });
    for (manager, status) in [("daylight/auditor", auditor), ("daylight/status", controller)] {
        let applied = json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Registration", "status": status,
        });
        let parameters = PatchParams::apply(manager);
        registrations.patch_status("shared", &parameters, &Patch::Apply(applied)).await?;
    }
    let status = registrations.get("shared").await?.data["status"].clone();
    let both = status["usage"]["millijoules"] == "3600000000"
        && status["held"]["gpus"] == 8
        && status["conditions"].as_array().is_some_and(|conditions| conditions.len() == 2);
    expect(both, status.to_string())
}

/// The API server and the types fill in the same defaults.
#[apply(trial!)]
async fn defaults_are_those_of_the_types(control_plane: &ControlPlane) -> Outcome {
    let client = control_plane.client();
    for table in tables() {
        let mut object = table.valid.clone();
        object["metadata"]["name"] = json!("defaulted");
        let stored = create(&api(&client, table.kind()), &object).await?;
        let spec = stored.data["spec"].clone();
        let read = read_and_write(table.kind(), &stored)?;
        expect(spec == read, format!("{}: {spec} is not {read}", table.kind()))?;
        let alone = read_and_write(table.kind(), &serde_json::from_value(object)?)?;
        expect(spec == alone, format!("{}: {spec} is not {alone}", table.kind()))?;
    }
    Ok(())
}

/// Reads the spec into the kind's type and writes it again.
fn read_and_write(kind: &str, object: &DynamicObject) -> Outcome<Value> {
    use daylight_crds::{ActivityClass, AiJob, Declaration, GpuPool, Miner, Registration};
    let spec = match kind {
        "GpuPool" => serde_json::to_value(object.clone().try_parse::<GpuPool>()?.spec),
        "ActivityClass" => serde_json::to_value(object.clone().try_parse::<ActivityClass>()?.spec),
        "Registration" => serde_json::to_value(object.clone().try_parse::<Registration>()?.spec),
        "Declaration" => serde_json::to_value(object.clone().try_parse::<Declaration>()?.spec),
        "Miner" => serde_json::to_value(object.clone().try_parse::<Miner>()?.spec),
        _ => serde_json::to_value(object.clone().try_parse::<AiJob>()?.spec),
    };
    Ok(spec?)
}

/// Sends the request of a case, and compares the answer with the expected one.
async fn judge(control_plane: &ControlPlane, table: &Table, case: Case, number: usize) -> Outcome {
    let api = api(&control_plane.client(), table.kind());
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let answer = match table.step(&case) {
        Step::Create(object) => {
            let object: DynamicObject = serde_json::from_value(object)?;
            api.create(&PostParams { dry_run: true, field_manager: None }, &object).await
        }
        Step::Change { mut object, status, patch, to_status } => {
            let name = format!("case-{number}");
            object["metadata"]["name"] = json!(name);
            create(&api, &object).await?;
            if let Some(status) = status {
                let status = Patch::Merge(json!({ "status": status }));
                api.patch_status(&name, &PatchParams::default(), &status).await?;
            }
            let patch = Patch::Merge(patch);
            if to_status {
                api.patch_status(&name, &dry_run, &patch).await
            } else {
                api.patch(&name, &dry_run, &patch).await
            }
        }
    };
    match (answer, case.message.as_str()) {
        (Ok(_), "") => Ok(()),
        (Ok(_), message) => Err(format!("accepted, instead of: {message}").into()),
        (Err(Error::Api(answer)), message) => expect(
            answer.code == 422 && !message.is_empty() && answer.message.contains(message),
            format!("expected {message:?}, got {} {}", answer.code, answer.message),
        ),
        (Err(error), _) => Err(error.into()),
    }
}

async fn create(api: &Api<DynamicObject>, object: &Value) -> Outcome<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    Ok(api.create(&PostParams::default(), &object).await?)
}

/// Returns the valid object of a kind's table.
fn valid(kind: &str) -> Value {
    tables().into_iter().find(|table| table.kind() == kind).map(|table| table.valid).unwrap()
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let spec = definitions()
        .into_iter()
        .map(|definition| definition.spec)
        .find(|spec| spec.names.kind == kind)
        .unwrap();
    let resource = ApiResource {
        api_version: format!("{}/{}", spec.group, spec.versions[0].name),
        version: spec.versions[0].name.clone(),
        group: spec.group,
        kind: spec.names.kind,
        plural: spec.names.plural,
    };
    if spec.scope == "Namespaced" {
        Api::namespaced_with(client.clone(), "default", &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    }
}

fn expect(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

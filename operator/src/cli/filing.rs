//! `daylight file`: records that a declaration was filed with the authority.

use std::fmt::Write as _;

use clap::Args;
use daylight_crds::{
    Declaration, DeclarationFiling, DeclarationState, DeclaredTotals, Millijoules,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde_json::json;

use super::connect::{Connection, full_key, namespaced, user};
use super::error::{CommandError, ErrorCode};
use super::output::Output;
use crate::reporting::numbers;

/// The field manager, which owns `status.filing` and nothing else.
const MANAGER: &str = "daylight/filing";

#[derive(Debug, Args)]
pub(super) struct File {
    /// Declaration that was filed; without a namespace, that of --namespace, or the context's
    #[arg(value_name = "NAMESPACE/NAME")]
    declaration: String,
    /// The authority's reference of the filing
    #[arg(long)]
    reference: Option<String>,
    /// Root hash of the figures that were filed, as displayed. Without it and --reference, display the
    /// figures, and record nothing
    #[arg(long)]
    root: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

/// A filing that was recorded, or the figures that would be filed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Filed<'a> {
    declaration: &'a str,
    registration: &'a str,
    period: &'a str,
    totals: Option<&'a DeclaredTotals>,
    root_hash: &'a str,
    /// `null` if it is not filed yet.
    filing: Option<DeclarationFiling>,
}

pub(super) async fn file(connection: &Connection, flags: &File) -> Result<(), CommandError> {
    let client = connection.client().await?;
    let key = full_key(&client, &flags.declaration);
    let (api, name) = namespaced::<Declaration>(&client, &key);
    let api: Api<Declaration> = api;
    let declaration = api.get_opt(name).await?.ok_or_else(|| {
        CommandError::new(format!("There is no Declaration {key}"))
            .code(ErrorCode::NotFound)
            .remedy("List them with `kubectl get declarations -A`")
    })?;
    let status = declaration.status.clone().unwrap_or_default();
    let state = status.state.unwrap_or_default();
    let Some(ledger) = status.ledger.as_ref().filter(|_| state == DeclarationState::Ready) else {
        let problem = format!("Declaration {key} has the state {state}, not Ready");
        let remedy = match state {
            DeclarationState::Filed | DeclarationState::Superseded => {
                "A filing is final: what arrives later is another Declaration"
            }
            _ => "Wait until the period is over and every node has reported up to its end",
        };
        return Err(CommandError::new(problem).code(ErrorCode::Conflict).remedy(remedy));
    };
    let mut filed = Filed {
        declaration: &key,
        registration: &declaration.spec.registration,
        period: &declaration.spec.period,
        totals: status.totals.as_ref(),
        root_hash: &ledger.root_hash,
        filing: None,
    };
    let (Some(reference), Some(root)) = (&flags.reference, &flags.root) else {
        flags.output.print(&filed, text)?;
        return Err(CommandError::new(format!("Declaration {key} is not filed"))
            .code(ErrorCode::NotConfirmed)
            .remedy(format!(
                "Once you filed it, run the command again with --reference REFERENCE --root {}",
                ledger.root_hash
            )));
    };
    if *root != ledger.root_hash {
        let problem =
            format!("The figures of Declaration {key} changed: their root is {}", ledger.root_hash);
        return Err(CommandError::new(problem)
            .code(ErrorCode::Conflict)
            .remedy("Read them again before you file them"));
    }
    let by = user(&client).await?;
    if declaration.spec.submitted_by.as_ref() == Some(&by) {
        let problem = format!("You ({by}) submitted the registration of Declaration {key}");
        let error = CommandError::new(problem).code(ErrorCode::Forbidden);
        return Err(error.remedy("Another person must file it"));
    }
    let now = jiff::Timestamp::now().as_second();
    let filing = DeclarationFiling {
        by,
        at: Time(jiff::Timestamp::from_second(now).unwrap_or_default()),
        reference: reference.clone(),
        root_hash: root.clone(),
    };
    // The UID: a declaration of the same name that was written again meanwhile must not get it.
    let patch = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "Declaration",
        "metadata": {
            "name": name, "namespace": declaration.namespace(), "uid": declaration.uid(),
        },
        "status": { "filing": filing },
    });
    api.patch_status(name, &PatchParams::apply(MANAGER), &Patch::Apply(&patch)).await?;
    filed.filing = Some(filing);
    flags.output.print(&filed, text)
}

fn text(filed: &Filed<'_>) -> String {
    let Filed { declaration, registration, period, totals, root_hash, filing } = filed;
    if let Some(filing) = filing {
        return format!(
            "Declaration {declaration} is filed by {} as {}.\n",
            filing.by, filing.reference
        );
    }
    let mut text = format!(
        "Declaration {declaration} of registration {registration} for {period}\n\
         Root hash {root_hash}\n\n"
    );
    if let Some(totals) = totals {
        let hours = |ms: i64| numbers::hours(ms.cast_unsigned());
        let gpus = totals.gpu_milliseconds;
        let _ = writeln!(
            text,
            "GPU time   {} hours, {} less to {} more",
            hours(gpus.value),
            hours(gpus.below),
            hours(gpus.above)
        );
        let _ = writeln!(text, "Operating  {} pod-hours", hours(totals.pod_milliseconds.value));
        for energy in &totals.energy {
            let kwh = |mj: Millijoules| numbers::kwh(mj.0);
            let amount = energy.amount;
            let _ = writeln!(
                text,
                "Energy     {} kWh by {}, {} less to {} more",
                kwh(amount.value),
                energy.method,
                kwh(amount.below),
                kwh(amount.above)
            );
        }
        let _ = writeln!(text, "Leases     {} ended", totals.ended_leases);
    }
    text
}

#[cfg(test)]
mod tests {
    use daylight_crds::{DeclaredAmount, DeclaredEnergy, DeclaredTime};

    use super::*;

    #[test]
    fn figures_are_shown_before_they_are_filed() {
        let totals = DeclaredTotals {
            gpu_milliseconds: DeclaredTime { value: 7_200_000, below: 0, above: 3_600_000 },
            energy: vec![DeclaredEnergy {
                method: "counter".into(),
                amount: DeclaredAmount {
                    value: Millijoules(3_600_000_000),
                    below: Millijoules(0),
                    above: Millijoules(360_000_000),
                },
            }],
            ended_leases: 3,
            ..DeclaredTotals::default()
        };
        let mut filed = Filed {
            declaration: "team/night-2026-11",
            registration: "night",
            period: "2026-11",
            totals: Some(&totals),
            root_hash: "n0FV",
            filing: None,
        };
        assert_eq!(
            text(&filed),
            "Declaration team/night-2026-11 of registration night for 2026-11\n\
             Root hash n0FV\n\n\
             GPU time   2.000 hours, 0.000 less to 1.000 more\n\
             Operating  0.000 pod-hours\n\
             Energy     1.000 kWh by counter, 0.000 less to 0.100 more\n\
             Leases     3 ended\n"
        );
        filed.filing = Some(DeclarationFiling {
            by: "eve".into(),
            at: Time(jiff::Timestamp::UNIX_EPOCH),
            reference: "N-4711".into(),
            root_hash: "n0FV".into(),
        });
        assert_eq!(text(&filed), "Declaration team/night-2026-11 is filed by eve as N-4711.\n");
    }
}

//! The content of a receipt.

use std::fmt::Write as _;

use daylight_ledger::Checkpoint;
use daylight_meter::{Bounded, Image, JobReference, Moment, decimal};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::reporting::{JobFigures, Run, UsedDevice, numbers};

/// Form of the manifest.
pub(super) const FORM: &str = "daylight.dev/receipt-manifest/v1";
/// Form of the receipt.
const RECEIPT_FORM: &str = "daylight.dev/receipt/v1";
pub(super) const RECEIPT: &str = "receipt.json";
/// End of the name of a proof: C2SP tlog-proof.
const ENTRY_FORM: &str = ".tlog-proof";

/// Most devices and runs that are printed. The JSON has all.
const PRINTED: usize = 16;

/// Job in the manifest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) job: JobReference,
}

/// What a job used. All of it but the name is computed from the entries.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    pub(super) form: String,
    /// Version of Daylight that wrote it.
    pub(super) version: String,
    /// Name of the ledger.
    pub(super) origin: String,
    /// Number of the ledger's entries that were read, and their root hash in hexadecimal.
    #[serde(with = "decimal")]
    pub(super) size: u64,
    pub(super) root: String,
    /// The job's name, if it is to be shown. No entry has it.
    pub(super) name: Option<String>,
    #[serde(flatten)]
    pub(super) figures: JobFigures,
}

/// Names of the files of an entry: its bytes, and its proof.
pub(super) fn entry_files(index: u64) -> [String; 2] {
    [format!("entry-{index}.json"), format!("entry-{index}{ENTRY_FORM}")]
}

/// Returns whether a file is the proof of an entry, rather than of a key.
pub(super) fn is_proof(file: &str) -> bool {
    file.starts_with("entry-") && file.ends_with(ENTRY_FORM)
}

/// The index in the name of a proof.
pub(super) fn index_of(file: &str) -> Option<u64> {
    file.strip_prefix("entry-")?.strip_suffix(ENTRY_FORM)?.parse().ok()
}

impl Receipt {
    pub(super) fn new(figures: JobFigures, name: Option<String>, checkpoint: &Checkpoint) -> Self {
        Self {
            form: RECEIPT_FORM.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: checkpoint.origin.clone(),
            size: checkpoint.size,
            root: checkpoint.root.to_string(),
            name,
            figures,
        }
    }

    /// The receipt for people.
    pub(super) fn text(&self) -> String {
        let JobFigures {
            job,
            start,
            end,
            gpu_ms,
            energy,
            unsettled,
            outcomes,
            interrupted_pods,
            runs,
            images,
            more_images,
            devices,
            pods,
        } = &self.figures;
        let kind = self.figures.kind();
        let name = self.name.as_deref().unwrap_or(&job.name);
        let mut text = format!("Receipt for {kind} {name}, UID {}\n", job.uid);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<13} {value}");
        };
        line("start", moment(*start));
        line("end", moment(*end));
        line("GPU-seconds", amount(*gpu_ms));
        for one in energy {
            let method = one.method.map_or("unknown method", <&str>::from);
            line("joules", format!("{} by {method}", amount(one.mj)));
        }
        if energy.is_empty() {
            line("joules", "none".to_owned());
        }
        if *unsettled > 0 {
            let what = format!("{unsettled} pods are not read to their end: write it again later");
            line("", what);
        }
        let ended: Vec<String> =
            outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        line("pods", format!("{}: {}", pods.len(), ended.join(", ")));
        line("interrupted", interruptions(*interrupted_pods, runs));
        line("images", images_text(images, *more_images));
        line("devices", devices_text(devices));
        text
    }
}

/// Seconds, or joules, with bounds.
fn amount(amount: Bounded) -> String {
    let [value, lower, upper] =
        numbers::bounded(amount, |milli| numbers::decimal(milli.into(), 1000, 3));
    format!("{value} ({lower} to {upper})")
}

fn moment(at: Moment) -> String {
    at.earliest.to_string()
}

fn interruptions(pods: u64, runs: &[Run]) -> String {
    if pods == 0 && runs.len() < 2 {
        return "none".to_owned();
    }
    let between: Vec<String> = runs
        .windows(2)
        .take(PRINTED)
        .map(|two| format!("{} to {}", two[0].until, two[1].from))
        .collect();
    let mut text = format!("{pods} of the pods, followed by others");
    if !between.is_empty() {
        let _ = write!(text, "; without any from {}", between.join(", from "));
    }
    more(text, runs.len().saturating_sub(PRINTED + 1))
}

fn images_text(images: &[Image], more_images: u64) -> String {
    let image = |image: &Image| match (&image.digest, &image.requested) {
        (Some(digest), _) => digest.to_string(),
        (None, requested) => {
            format!("{} (as requested, without a digest)", requested.as_deref().unwrap_or("?"))
        }
    };
    if images.is_empty() {
        return "not recorded".to_owned();
    }
    let text = images.iter().map(image).collect::<Vec<_>>().join(", ");
    more(text, usize::try_from(more_images).unwrap_or(usize::MAX))
}

fn devices_text(devices: &[UsedDevice]) -> String {
    let device = |one: &UsedDevice| {
        let UsedDevice { node, id, model, certain } = one;
        let model = model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
        let doubt = if *certain { "" } else { ", or another of its node" };
        format!("{node} {id}{model}{doubt}")
    };
    if devices.is_empty() {
        return "not known".to_owned();
    }
    let printed = devices.iter().take(PRINTED).map(device).collect::<Vec<_>>().join(", ");
    more(printed, devices.len().saturating_sub(PRINTED))
}

fn more(text: String, more: usize) -> String {
    if more == 0 { text } else { format!("{text}, and {more} more") }
}

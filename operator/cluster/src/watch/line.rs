//! Lines of a watch, one event each.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::core::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::watch::lenient::Lenient;

/// One event of a watch.
pub(super) enum Line<T> {
    /// An object was added or changed.
    Put(T),
    /// An object was deleted; its last state.
    Deleted(T),
    /// Every change up to this version was sent.
    Bookmark {
        version: u64,
        /// `true` if this completes the list with which the watch began.
        complete: bool,
    },
    Error(Box<Status>),
    /// An object that cannot be read; it was logged.
    Unreadable,
}

/// Reads a line. An error means that the line is not an event at all.
pub(super) fn read<T: DeserializeOwned>(line: &str) -> Result<Line<T>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        object: &'a RawValue,
    }

    #[derive(Deserialize)]
    struct Bookmark {
        metadata: Metadata,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }

    let Raw { kind, object } = serde_json::from_str(line)?;
    let text = object.get();
    Ok(match &*kind {
        "ADDED" | "MODIFIED" => Lenient::read(text).map_or(Line::Unreadable, Line::Put),
        "DELETED" => Lenient::read(text).map_or(Line::Unreadable, Line::Deleted),
        "BOOKMARK" => {
            let Bookmark { metadata } = serde_json::from_str(text)?;
            Line::Bookmark {
                version: metadata.resource_version.parse().unwrap_or(0),
                complete: metadata
                    .annotations
                    .get("k8s.io/initial-events-end")
                    .is_some_and(|value| value == "true"),
            }
        }
        _ => Line::Error(serde_json::from_str(text)?),
    })
}

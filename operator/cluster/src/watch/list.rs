//! Lists in pages.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::watch::lenient::Lenient;

/// A page of a list in JSON.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    metadata: Metadata,
    #[serde(default)]
    items: Option<Vec<Lenient<T>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// The content of a page.
pub(super) struct Read<T> {
    pub(super) version: u64,
    /// Token that requests the next page; `None` on the last one.
    pub(super) next: Option<String>,
    pub(super) items: Vec<T>,
}

/// Reads a page.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<Read<T>, serde_json::Error> {
    let page: Page<T> = serde_json::from_str(text)?;
    Ok(Read {
        version: page.metadata.resource_version.parse().unwrap_or(0),
        next: page.metadata.next.filter(|token| !token.is_empty()),
        items: page.items.unwrap_or_default().into_iter().filter_map(|item| item.0).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slim::Pod;

    #[test]
    fn a_malformed_item_does_not_hide_the_others() {
        let text = r#"{
            "metadata": {"resourceVersion": "7", "continue": "more"},
            "items": [
                {"metadata": {"name": "a", "namespace": "n"}},
                {"metadata": {"name": "b", "creationTimestamp": "yesterday"}},
                {"metadata": {"name": "c", "namespace": "n"}}
            ]
        }"#;
        let page: Read<Pod> = read(text).unwrap();
        let keys: Vec<_> = page.items.iter().map(|pod| &*pod.key).collect();
        assert_eq!(keys, ["n/a", "n/c"]);
        assert_eq!(page.version, 7);
        assert_eq!(page.next.as_deref(), Some("more"));
    }

    #[test]
    fn a_list_may_be_empty() {
        for text in [
            r#"{"metadata": {"resourceVersion": "7"}, "items": null}"#,
            r#"{"metadata": {"resourceVersion": "7", "continue": ""}}"#,
        ] {
            let page: Read<Pod> = read(text).unwrap();
            assert!(page.items.is_empty() && page.next.is_none());
        }
    }
}

//! Digest of the subject of an approval.
//!
//! The digest is SHA-256 over the canonical JSON (RFC 8785) of
//!
//! ```json
//! {
//!   "version": 1,
//!   "registration": {"namespace": "…", "name": "…", "spec": {…}},
//!   "activityClass": {"name": "…", "spec": {…}},
//!   "pools": [{"name": "…", "nodeSelector": {…}, "resource": "…", "site": {…}}, …]
//! }
//! ```
//!
//! with the pools that the registration names, sorted by name. A class or pool that does not exist
//! has `null` for its content.
//!
//! - Of a pool, the digest covers only what was approved: the hardware (`nodeSelector`, `resource`,
//!   `deviceClasses`) and its site (without `pue`, which only scales an estimate). The policy,
//!   windows, headroom and budgets of a pool may change daily; approvals would be worthless if each
//!   such change voided them.
//! - The specs are those that the API server stores, with defaults, read into the types of this
//!   version and serialized again. A field that a newer definition adds is therefore not in the
//!   digest of an older program. A newer program must omit it while it has its default
//!   (`skip_serializing_if`), so that an upgrade voids nothing. An empty list and an absent one are
//!   the same. The test `the_digest_is_frozen` fails if a change breaks this; other rules need a
//!   new version.

use daylight_crds::{ActivityClass, GpuPool, Registration};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The version of the rules above.
pub const VERSION: u32 = 1;

/// Computes the digest of a registration with its class and pools, as `sha256:` and 64 hexadecimal
/// digits.
///
/// `class` is the class that `spec.activityClass` names, and `pools` returns a pool that
/// `spec.pools` names; `None` if it does not exist.
pub fn spec_digest<'a>(
    registration: &Registration,
    class: Option<&ActivityClass>,
    pools: impl Fn(&str) -> Option<&'a GpuPool>,
) -> String {
    of(&content(registration, class, pools))
}

/// Returns what the digest is computed of.
pub fn content<'a>(
    registration: &Registration,
    class: Option<&ActivityClass>,
    pools: impl Fn(&str) -> Option<&'a GpuPool>,
) -> Value {
    let spec = &registration.spec;
    let mut named: Vec<&str> = spec.pools.iter().map(String::as_str).collect();
    named.sort_unstable();
    named.dedup();
    json!({
        "version": VERSION,
        "registration": {
            "namespace": registration.metadata.namespace,
            "name": registration.metadata.name,
            "spec": value(spec),
        },
        "activityClass": {
            "name": spec.activity_class,
            "spec": class.map(|class| value(&class.spec)),
        },
        "pools": named.iter().map(|name| pool(name, pools(name))).collect::<Vec<_>>(),
    })
}

/// Computes SHA-256 over the canonical JSON (RFC 8785) of a value, as `sha256:` and 64 hexadecimal
/// digits.
pub fn of(subject: &impl Serialize) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(canonical(subject))))
}

/// Returns the canonical JSON (RFC 8785) of a value.
pub fn canonical(subject: &impl Serialize) -> String {
    // Serializing a value of strings, whole numbers, lists and maps cannot fail;
    // if it did, the result would match no approval.
    serde_json_canonicalizer::to_string(subject).unwrap_or_default()
}

fn pool(name: &str, pool: Option<&GpuPool>) -> Value {
    let Some(GpuPool { spec, .. }) = pool else {
        return json!({"name": name, "spec": null});
    };
    let mut site = value(&spec.site);
    if let Value::Object(site) = &mut site {
        site.remove("pue");
    }
    let mut subject = json!({
        "name": name,
        "nodeSelector": value(&spec.node_selector),
        "resource": spec.resource,
        "site": site,
    });
    if !spec.device_classes.is_empty() {
        subject["deviceClasses"] = value(&spec.device_classes);
    }
    subject
}

fn value(spec: &impl Serialize) -> Value {
    serde_json::to_value(spec).unwrap_or(Value::Null)
}

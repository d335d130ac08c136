//! Extended resources that are GPUs.

/// Resources that no pool names and that are GPUs all the same, as the admission policies have them.
#[derive(Clone, Debug, Default)]
pub(in crate::auditor) struct GpuResources {
    exact: Vec<String>,
    /// Beginnings of names.
    prefixes: Vec<String>,
}

/// Resources of Intel's device plugin that are no devices: memory in bytes, thousandths of a
/// processor, tiles of a device that is requested with them, and access to monitoring.
const INTEL: &str = "gpu.intel.com/";
const INTEL_AMOUNTS: [&str; 3] = ["memory.max", "millicores", "tiles"];
const INTEL_MONITORING: &str = "_monitoring";

impl GpuResources {
    /// Takes names of resources; a `*` at the end matches any text.
    pub(in crate::auditor) fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut resources = Self::default();
        for name in names {
            let name = name.as_ref();
            match name.strip_suffix('*') {
                Some(prefix) => resources.prefixes.push(prefix.to_owned()),
                None => resources.exact.push(name.to_owned()),
            }
        }
        resources
    }

    /// Returns `true` if a resource is one of them, and counts devices or parts of them.
    pub(super) fn have(&self, resource: &str) -> bool {
        let is_named = self.exact.iter().any(|name| name == resource);
        let counts_devices = resource
            .strip_prefix(INTEL)
            .is_none_or(|name| !INTEL_AMOUNTS.contains(&name) && !name.ends_with(INTEL_MONITORING));
        is_named
            || counts_devices && self.prefixes.iter().any(|prefix| resource.starts_with(&**prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_slices_and_partitions_and_no_amounts() {
        let resources =
            GpuResources::new(["nvidia.com/gpu", "nvidia.com/mig-*", "gpu.intel.com/*"]);
        for (resource, expected) in [
            ("nvidia.com/gpu", true),
            ("nvidia.com/gpu.shared", false),
            ("nvidia.com/mig-3g.40gb", true),
            ("gpu.intel.com/i915", true),
            ("gpu.intel.com/xe", true),
            ("gpu.intel.com/xe_monitoring", false),
            ("gpu.intel.com/memory.max", false),
            ("gpu.intel.com/millicores", false),
            ("gpu.intel.com/tiles", false),
            ("amd.com/gpu", false),
        ] {
            assert_eq!(resources.have(resource), expected, "{resource}");
        }
    }
}

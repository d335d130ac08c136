//! Extended resources that are GPUs, by the names that admission policies have.

/// Returns `true` if one of the names stands for a resource. A `*` at the end of a name matches any
/// text.
pub(crate) fn is_listed(resource: &str, names: &[String]) -> bool {
    names.iter().any(|name| stands_for(name, resource))
}

fn stands_for(name: &str, resource: &str) -> bool {
    match name.strip_suffix('*') {
        Some(prefix) => resource.starts_with(prefix),
        None => resource == name,
    }
}

/// Resources that no pool names and that are GPUs all the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct GpuResources {
    names: Vec<String>,
}

/// Resources of Intel's device plugin that are no devices: memory in bytes, thousandths of a
/// processor, tiles of a device that is requested with them, and access to monitoring.
const INTEL: &str = "gpu.intel.com/";
const INTEL_AMOUNTS: [&str; 3] = ["memory.max", "millicores", "tiles"];
const INTEL_MONITORING: &str = "_monitoring";

impl GpuResources {
    /// Takes names of resources as in [`is_listed`].
    pub(crate) fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect() }
    }

    /// Returns `true` if a resource is one of them, and counts devices or parts of them.
    pub(crate) fn have(&self, resource: &str) -> bool {
        let counts_devices = resource
            .strip_prefix(INTEL)
            .is_none_or(|name| !INTEL_AMOUNTS.contains(&name) && !name.ends_with(INTEL_MONITORING));
        let mut names = self.names.iter();
        // What is named as a whole is a device.
        names.any(|name| name == resource || counts_devices && stands_for(name, resource))
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

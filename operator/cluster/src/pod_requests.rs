//! Requests of a pod, computed as by kube-scheduler.
//!
//! The rules are those of `k8s.io/component-helpers/resource`:
//!
//! - Containers run at the same time and add up.
//! - Init containers run one by one before them, each together with the sidecars (restartable init
//!   containers) that started before it. The pod needs the larger of the two.
//! - Requests on the pod itself replace the result, and overhead is added.
//! - For a container that is being resized in place, the largest of what is requested, allocated
//!   and in use counts; if its node can never do it, what is requested does not count.

use daylight_base::Name;
use serde::Deserialize;

use crate::amounts::Amounts;
use crate::quantity::Quantity;

/// Amounts that a pod requests, or that a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// In thousandths of a CPU.
    pub cpu_milli: u64,
    /// In bytes.
    pub memory: u64,
    /// Bytes of huge pages: those of 2 MiB, and those of 1 GiB.
    pub huge_pages: [u64; 2],
    /// Number of pods that a node allows.
    pub pods: u32,
    /// Extended resources, those with a domain in their name, sorted; without zeros.
    pub extended: Box<[(Name, u32)]>,
    /// `true` if there is anything else, such as ephemeral storage.
    pub others: bool,
}

impl Requests {
    /// Returns the amount of an extended resource.
    pub fn of(&self, resource: &str) -> u32 {
        self.extended.iter().find(|(name, _)| **name == *resource).map_or(0, |(_, count)| *count)
    }
}

impl From<&Amounts> for Requests {
    /// Rounds up, as kube-scheduler does.
    fn from(amounts: &Amounts) -> Self {
        let mut requests = Self::default();
        let mut extended: Vec<(Name, u32)> = Vec::new();
        for (resource, amount) in &amounts.0 {
            match &**resource {
                "cpu" => requests.cpu_milli = amount.milli(),
                "memory" => requests.memory = amount.units(),
                "hugepages-2Mi" => requests.huge_pages[0] = amount.units(),
                "hugepages-1Gi" => requests.huge_pages[1] = amount.units(),
                "pods" => requests.pods = u32::try_from(amount.units()).unwrap_or(u32::MAX),
                name if name.contains('/') => {
                    let count = u32::try_from(amount.units()).unwrap_or(u32::MAX);
                    if count > 0 {
                        extended.push((Name::from(name), count));
                    }
                }
                _ => requests.others |= *amount > Quantity::ZERO,
            }
        }
        extended.sort_unstable();
        requests.extended = extended.into();
        requests
    }
}

/// `resources` of a container or pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    requests: Amounts,
    limits: Amounts,
}

impl Resources {
    /// Returns the requests, with the limit where a request is missing. The API server fills these
    /// in for pods, but not for the templates in Daylight's own objects.
    fn effective(&self) -> Amounts {
        let mut amounts = self.requests.clone();
        for (resource, limit) in &self.limits.0 {
            if !amounts.0.iter().any(|(name, _)| name == resource) {
                amounts.0.push((resource.clone(), *limit));
            }
        }
        amounts
    }
}

/// A container, reduced to its image and the fields that its requests depend on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub(crate) name: Box<str>,
    pub(crate) image: Box<str>,
    resources: Resources,
    restart_policy: Option<Box<str>>,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    host_port: Option<i64>,
}

impl Container {
    /// Returns `true` if the container takes a port of its node.
    pub fn has_host_port(&self) -> bool {
        self.ports.iter().any(|port| port.host_port.is_some_and(|number| number != 0))
    }
}

/// Resources in a container's status.
#[derive(Debug)]
pub struct ContainerResources {
    pub name: Box<str>,
    pub allocated: Amounts,
    pub in_use: Option<Resources>,
}

/// Returns `true` if the resource can be requested on the pod itself.
fn counts_on_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// The fields of a pod on which its requests depend.
#[derive(Debug, Default)]
pub struct PodResources<'a> {
    pub containers: &'a [Container],
    pub init_containers: &'a [Container],
    /// `spec.resources` of the pod itself.
    pub pod: Option<&'a Resources>,
    pub overhead: Option<&'a Amounts>,
    /// Those of containers and init containers.
    pub statuses: &'a [ContainerResources],
    /// The node cannot resize the pod as its containers request.
    pub resize_is_infeasible: bool,
}

impl PodResources<'_> {
    /// Computes the requests of the whole pod.
    pub fn effective(&self) -> Requests {
        let mut sum = Amounts::default();
        for container in self.containers {
            sum.add(&self.of(container));
        }
        let mut sidecars = Amounts::default();
        // The most that is needed at any time before the containers start.
        let mut before = Amounts::default();
        for container in self.init_containers {
            let own = self.of(container);
            if container.restart_policy.as_deref() == Some("Always") {
                sum.add(&own);
                sidecars.add(&own);
                before.raise_to(&sidecars);
            } else {
                let mut with_sidecars = own;
                with_sidecars.add(&sidecars);
                before.raise_to(&with_sidecars);
            }
        }
        sum.raise_to(&before);
        if let Some(pod) = self.pod {
            // A limit on the pod counts as a request only if no container requests the resource.
            for (resource, limit) in &pod.limits.0 {
                if counts_on_pods(resource) && !sum.0.iter().any(|(name, _)| name == resource) {
                    sum.0.push((resource.clone(), *limit));
                }
            }
            for (resource, amount) in &pod.requests.0 {
                if counts_on_pods(resource) {
                    *sum.get_mut(resource) = *amount;
                }
            }
        }
        if let Some(overhead) = self.overhead {
            sum.add(overhead);
        }
        Requests::from(&sum)
    }

    fn of(&self, container: &Container) -> Amounts {
        let requested = container.resources.effective();
        let status = self.statuses.iter().find(|status| status.name == container.name);
        let Some(ContainerResources { allocated, in_use: Some(in_use), .. }) = status else {
            return requested;
        };
        let mut amounts = if self.resize_is_infeasible { Amounts::default() } else { requested };
        amounts.raise_to(allocated);
        amounts.raise_to(&in_use.requests);
        amounts
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn effective(spec: &Value, statuses: &[ContainerResources]) -> Requests {
        resized(spec, statuses, false)
    }

    fn resized(
        spec: &Value,
        statuses: &[ContainerResources],
        resize_is_infeasible: bool,
    ) -> Requests {
        let read = |field: &str| -> Vec<Container> {
            serde_json::from_value(spec.get(field).cloned().unwrap_or(json!([]))).unwrap()
        };
        let pod: Option<Resources> =
            spec.get("resources").map(|value| serde_json::from_value(value.clone()).unwrap());
        let overhead: Option<Amounts> =
            spec.get("overhead").map(|value| serde_json::from_value(value.clone()).unwrap());
        PodResources {
            containers: &read("containers"),
            init_containers: &read("initContainers"),
            pod: pod.as_ref(),
            overhead: overhead.as_ref(),
            statuses,
            resize_is_infeasible,
        }
        .effective()
    }

    fn requesting(requests: &Value) -> Value {
        json!({"resources": {"requests": requests}})
    }

    fn sidecar(requests: &Value) -> Value {
        json!({"restartPolicy": "Always", "resources": {"requests": requests}})
    }

    #[test]
    fn a_pod_requests_the_amounts_that_kube_scheduler_reserves() {
        let gpu = "nvidia.com/gpu";
        for (what, spec, cpu_milli, memory, gpus) in [
            ("nothing", json!({"containers": [{}]}), 0, 0, 0),
            (
                "containers add up, then are rounded up once",
                json!({"containers": [
                    requesting(&json!({"cpu": "0.0005", "memory": "1.5", gpu: "1"})),
                    requesting(&json!({"cpu": "0.0005", "memory": "1.5", gpu: 2})),
                ]}),
                1,
                3,
                3,
            ),
            (
                "limits replace requests that are missing",
                json!({"containers": [{"resources": {
                    "limits": {"cpu": "2", "memory": "1Gi", gpu: "4"},
                    "requests": {"cpu": "500m"},
                }}]}),
                500,
                1 << 30,
                4,
            ),
            (
                "the larger of one init container and all containers",
                json!({
                    "initContainers": [requesting(&json!({"cpu": "3"})), requesting(&json!({"memory": "8"}))],
                    "containers": [requesting(&json!({"cpu": "1", "memory": "5"})), requesting(&json!({"cpu": "1"}))],
                }),
                3_000,
                8,
                0,
            ),
            (
                "a sidecar keeps running together with the containers",
                json!({
                    "initContainers": [sidecar(&json!({"cpu": "1"}))],
                    "containers": [requesting(&json!({"cpu": "2"}))],
                }),
                3_000,
                0,
                0,
            ),
            (
                "an init container runs together with the sidecars before it, not those after it",
                json!({
                    "initContainers": [
                        sidecar(&json!({"cpu": "1"})),
                        requesting(&json!({"cpu": "5"})),
                        sidecar(&json!({"cpu": "4"})),
                    ],
                    "containers": [requesting(&json!({"cpu": "500m"}))],
                }),
                6_000,
                0,
                0,
            ),
            (
                "sidecars alone can be the most",
                json!({
                    "initContainers": [sidecar(&json!({gpu: "1"})), sidecar(&json!({gpu: "1"}))],
                    "containers": [requesting(&json!({gpu: "1"}))],
                }),
                0,
                0,
                3,
            ),
            (
                "requests on the pod replace the sum, but not for extended resources",
                json!({
                    "resources": {"requests": {"cpu": "1", gpu: "9"}},
                    "containers": [requesting(&json!({"cpu": "3", "memory": "7", gpu: "2"}))],
                }),
                1_000,
                7,
                2,
            ),
            (
                "limits on the pod count where nothing is requested",
                json!({
                    "resources": {"limits": {"cpu": "4", "memory": "9"}},
                    "containers": [requesting(&json!({"memory": "7"}))],
                }),
                4_000,
                7,
                0,
            ),
            (
                "overhead is added",
                json!({
                    "overhead": {"cpu": "250m", "memory": "120Mi"},
                    "containers": [requesting(&json!({"cpu": "1"}))],
                }),
                1_250,
                120 << 20,
                0,
            ),
        ] {
            let requests = effective(&spec, &[]);
            assert_eq!(requests.cpu_milli, cpu_milli, "{what}");
            assert_eq!(requests.memory, memory, "{what}");
            assert_eq!(requests.of(gpu), gpus, "{what}");
        }
    }

    #[test]
    fn a_resize_counts_with_the_larger_side() {
        let spec = json!({"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "1", "memory": "10"}}},
        ]});
        let read = |value: Value| serde_json::from_value(value).unwrap();
        let statuses = [ContainerResources {
            name: "a".into(),
            allocated: read(json!({"cpu": "2", "memory": "5"})),
            in_use: Some(serde_json::from_value(json!({"requests": {"cpu": "3"}})).unwrap()),
        }];
        let requests = effective(&spec, &statuses);
        assert_eq!((requests.cpu_milli, requests.memory), (3_000, 10));
        let requests = resized(&spec, &statuses, true);
        assert_eq!((requests.cpu_milli, requests.memory), (3_000, 5));
        // A node that says nothing of what is in use does not resize.
        let statuses =
            [ContainerResources { in_use: None, ..statuses.into_iter().next().unwrap() }];
        assert_eq!(effective(&spec, &statuses).cpu_milli, 1_000);
        assert_eq!(resized(&spec, &statuses, true).cpu_milli, 1_000);
    }

    #[test]
    fn a_sidecar_that_is_resized_counts_with_the_larger_side() {
        let mut own = sidecar(&json!({"cpu": "1"}));
        own["name"] = json!("mesh");
        let spec =
            json!({"initContainers": [own], "containers": [requesting(&json!({"cpu": "2"}))]});
        let statuses = [ContainerResources {
            name: "mesh".into(),
            allocated: Amounts::default(),
            in_use: Some(serde_json::from_value(json!({"requests": {"cpu": "3"}})).unwrap()),
        }];
        assert_eq!(effective(&spec, &statuses).cpu_milli, 5_000);
    }

    #[test]
    fn other_resources_are_noticed() {
        let of = |requests: &Value| effective(&json!({"containers": [requesting(requests)]}), &[]);
        assert!(!of(&json!({"cpu": "1", "memory": "1", "nvidia.com/gpu": "1"})).others);
        assert!(of(&json!({"ephemeral-storage": "1Gi"})).others);
        assert!(of(&json!({"hugepages-64Ki": "4Mi"})).others);
        let huge_pages = of(&json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}));
        assert_eq!((huge_pages.huge_pages, huge_pages.others), ([4 << 20, 1 << 30], false));
        assert!(!of(&json!({"ephemeral-storage": "0"})).others);
    }
}

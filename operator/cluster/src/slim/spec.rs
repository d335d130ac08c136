//! Pod specs: the requests, and the constraints on the node.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use daylight_base::Name;
use k8s_openapi::api::core::v1::{
    Container as ApiContainer, PodTemplateSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::amounts::Amounts;
use crate::pod_requests::{Container, ContainerResources, PodResources, Requests, Resources};
use crate::quantity::Quantity;
use crate::selector::{NodeFilter, Operator, Requirement, Term};
use crate::slim::meta::{NotEmpty, Pairs};
use crate::taints::Toleration;

/// Constraints on the node of a pod, in addition to its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `nodeSelector` and required node affinity.
    pub nodes: NodeFilter,
    pub tolerations: Vec<Toleration>,
    /// `true` if kube-scheduler has further filters for it, which are not evaluated here: affinity
    /// between pods, topology spread, volumes, host ports, claims, gates, gangs, another scheduler.
    pub opaque: bool,
}

/// A pod template, reduced to requests and constraints on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Requests of each pod.
    pub requests: Requests,
    pub scheduling: Scheduling,
    /// `RuntimeClass` of each pod.
    pub runtime_class: Option<Name>,
}

impl Template {
    /// Reads a template; the error names the field and the value that cannot be read.
    pub fn new(template: &PodTemplateSpec) -> Result<Self, String> {
        let value = serde_json::to_value(&template.spec).map_err(|error| error.to_string())?;
        let spec = Spec::deserialize(value)
            .map_err(|error| unreadable_quantity(template).unwrap_or_else(|| error.to_string()))?;
        Ok(Self {
            requests: spec.requests(&[], false),
            scheduling: spec.scheduling(),
            runtime_class: Some(&*spec.runtime_class_name)
                .filter(|name| !name.is_empty())
                .map(Name::from),
        })
    }
}

/// Names the first quantity of a template that cannot be read, and its field.
fn unreadable_quantity(template: &PodTemplateSpec) -> Option<String> {
    let spec = template.spec.as_ref()?;
    let bad = |field: String, amounts: &Option<BTreeMap<String, ApiQuantity>>| {
        let mut amounts = amounts.iter().flatten();
        amounts.find_map(|(resource, amount)| {
            let error = amount.0.parse::<Quantity>().err()?;
            Some(format!("{field}[{resource}]: {error}"))
        })
    };
    let of = |field: String, resources: Option<&ResourceRequirements>| {
        let ResourceRequirements { limits, requests, .. } = resources?;
        bad(format!("{field}.resources.limits"), limits)
            .or_else(|| bad(format!("{field}.resources.requests"), requests))
    };
    let in_list = |list: &str, containers: &[ApiContainer]| {
        let mut containers = containers.iter().enumerate();
        containers.find_map(|(at, one)| of(format!("{list}[{at}]"), one.resources.as_ref()))
    };
    in_list("containers", &spec.containers)
        .or_else(|| in_list("initContainers", spec.init_containers.as_deref().unwrap_or_default()))
        .or_else(|| of("spec".into(), spec.resources.as_ref()))
        .or_else(|| bad("overhead".into(), &spec.overhead))
}

/// `spec` of a pod, reduced to the fields that Daylight uses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec<'a> {
    pub(super) containers: Vec<Container>,
    pub(super) init_containers: Vec<Container>,
    resources: Option<Resources>,
    overhead: Option<Amounts>,
    #[serde(borrow)]
    pub(super) node_name: Cow<'a, str>,
    #[serde(borrow)]
    node_selector: Pairs<'a>,
    #[serde(borrow)]
    affinity: Option<Affinity<'a>>,
    #[serde(borrow)]
    tolerations: Vec<RawToleration<'a>>,
    pub(super) priority: i32,
    #[serde(borrow)]
    pub(super) priority_class_name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) preemption_policy: Cow<'a, str>,
    #[serde(borrow)]
    scheduler_name: Cow<'a, str>,
    #[serde(borrow)]
    runtime_class_name: Cow<'a, str>,
    #[serde(borrow)]
    scheduling_gates: Vec<Gate<'a>>,
    #[serde(borrow)]
    topology_spread_constraints: Vec<Spread<'a>>,
    volumes: Vec<Volume>,
    resource_claims: NotEmpty,
    workload_ref: Option<IgnoredAny>,
    scheduling_group: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Affinity<'a> {
    #[serde(borrow, rename = "nodeAffinity")]
    to_nodes: Option<NodeAffinity<'a>>,
    #[serde(rename = "podAffinity")]
    to_pods: Option<PodAffinity>,
    #[serde(rename = "podAntiAffinity")]
    from_pods: Option<PodAffinity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAffinity<'a> {
    #[serde(borrow, rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<NodeSelector<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: NotEmpty,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSelector<'a> {
    #[serde(borrow)]
    node_selector_terms: Vec<RawTerm<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawTerm<'a> {
    #[serde(borrow)]
    match_expressions: Vec<RawRequirement<'a>>,
    #[serde(borrow)]
    match_fields: Vec<RawRequirement<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawRequirement<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    operator: Cow<'a, str>,
    values: Vec<Box<str>>,
}

/// A toleration as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawToleration<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    operator: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    effect: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Gate<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spread<'a> {
    #[serde(borrow)]
    when_unsatisfiable: Cow<'a, str>,
}

/// A volume of a pod.
#[derive(Debug)]
struct Volume {
    name: Box<str>,
    claim: Option<VolumeClaim>,
    /// `true` if every node can mount it, so that kube-scheduler does not filter by it. A source
    /// that is not known here may restrict the nodes.
    plain: bool,
}

/// The claim that a volume is of.
#[derive(Debug)]
enum VolumeClaim {
    Named(Box<str>),
    /// The one that Kubernetes makes for the pod, and names after it and the volume.
    OfPod,
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Volume;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a volume")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Default, Deserialize)]
                #[serde(rename_all = "camelCase", default)]
                struct Named {
                    claim_name: Box<str>,
                }

                let mut plain = true;
                let (mut name, mut claim) = (Box::default(), None);
                while let Some(source) = map.next_key::<Cow<'de, str>>()? {
                    match &*source {
                        "name" => {
                            name = map.next_value()?;
                            continue;
                        }
                        "persistentVolumeClaim" => {
                            let named: Option<Named> = map.next_value()?;
                            claim = named.map(|named| VolumeClaim::Named(named.claim_name));
                        }
                        "ephemeral" => {
                            let IgnoredAny = map.next_value()?;
                            claim = Some(VolumeClaim::OfPod);
                        }
                        _ => IgnoredAny = map.next_value()?,
                    }
                    plain &= matches!(
                        &*source,
                        "configMap"
                            | "downwardAPI"
                            | "emptyDir"
                            | "hostPath"
                            | "image"
                            | "nfs"
                            | "projected"
                            | "secret"
                    );
                }
                Ok(Volume { name, claim, plain })
            }
        }

        deserializer.deserialize_map(Read)
    }
}

impl Spec<'_> {
    pub(super) fn requests(
        &self,
        statuses: &[ContainerResources],
        resize_is_infeasible: bool,
    ) -> Requests {
        PodResources {
            containers: &self.containers,
            init_containers: &self.init_containers,
            pod: self.resources.as_ref(),
            overhead: self.overhead.as_ref(),
            statuses,
            resize_is_infeasible,
        }
        .effective()
    }

    /// The names of the volume claims of a pod of this name.
    pub(super) fn claims(&self, pod: &str) -> Box<[Name]> {
        let claims = self.volumes.iter().filter_map(|volume| {
            Some(match volume.claim.as_ref()? {
                VolumeClaim::Named(claim) => Name::from(&**claim),
                VolumeClaim::OfPod => format!("{pod}-{}", volume.name).into(),
            })
        });
        claims.collect()
    }

    /// The names of its scheduling gates.
    pub(super) fn gates(&self) -> Box<[Name]> {
        self.scheduling_gates.iter().map(|gate| Name::from(&*gate.name)).collect()
    }

    pub(super) fn node_filter(&self) -> NodeFilter {
        let required = self
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.to_nodes.as_ref())
            .and_then(|affinity| affinity.required.as_ref());
        NodeFilter {
            labels: self.node_selector.names(),
            terms: required.map(|required| {
                // A term that cannot be read matches no node.
                required.node_selector_terms.iter().filter_map(RawTerm::read).collect()
            }),
        }
    }

    pub(super) fn scheduling(&self) -> Scheduling {
        let affinity = self.affinity.as_ref();
        let between_pods =
            |affinity: Option<&PodAffinity>| affinity.is_some_and(|affinity| affinity.required.0);
        let opaque = between_pods(affinity.and_then(|all| all.to_pods.as_ref()))
            || between_pods(affinity.and_then(|all| all.from_pods.as_ref()))
            || self
                .topology_spread_constraints
                .iter()
                .any(|spread| spread.when_unsatisfiable != "ScheduleAnyway")
            || self.volumes.iter().any(|volume| !volume.plain)
            || self.containers.iter().chain(&self.init_containers).any(Container::has_host_port)
            || self.resource_claims.0
            || !self.scheduling_gates.is_empty()
            || self.workload_ref.is_some()
            || self.scheduling_group.is_some()
            || !matches!(&*self.scheduler_name, "" | "default-scheduler");
        Scheduling {
            nodes: self.node_filter(),
            tolerations: self.tolerations.iter().filter_map(RawToleration::read).collect(),
            opaque,
        }
    }
}

impl RawToleration<'_> {
    pub(super) fn read(&self) -> Option<Toleration> {
        Toleration::new(&self.key, &self.operator, &self.value, &self.effect)
    }
}

impl RawTerm<'_> {
    fn read(&self) -> Option<Term> {
        let read = |raw: &[RawRequirement<'_>]| {
            raw.iter()
                .map(|one| {
                    Some(Requirement {
                        key: Name::from(&*one.key),
                        operator: Operator::parse(&one.operator)?,
                        values: one.values.iter().map(|value| Name::from(&**value)).collect(),
                    })
                })
                .collect::<Option<Vec<_>>>()
        };
        Some(Term { labels: read(&self.match_expressions)?, fields: read(&self.match_fields)? })
    }
}

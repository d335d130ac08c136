//! Label selectors, node selectors and node affinity: the nodes that they allow.

use daylight_base::Name;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A node's labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Name, Name)]>);

impl Labels {
    /// Creates labels from pairs in any order.
    pub fn new(mut pairs: Vec<(Name, Name)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup_by(|later, first| later.0 == first.0);
        Self(pairs.into_boxed_slice())
    }

    /// Returns the value of a label.
    pub fn get(&self, key: &str) -> Option<&Name> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok().map(|at| &self.0[at].1)
    }

    /// Iterates over the pairs. The caller may only replace a key by an equal one.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut (Name, Name)> {
        self.0.iter_mut()
    }
}

/// Operator of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

impl Operator {
    /// Reads an operator as Kubernetes spells it.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "In" => Self::In,
            "NotIn" => Self::NotIn,
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => Self::Gt,
            "Lt" => Self::Lt,
            _ => return None,
        })
    }
}

/// One condition on a label or field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: Name,
    pub operator: Operator,
    pub values: Box<[Name]>,
}

impl Requirement {
    fn allows(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|known| **known == *value);
        let compared = |value: &str| {
            let bound: i64 = self.values.first()?.parse().ok()?;
            let value: i64 = value.parse().ok()?;
            Some(value.cmp(&bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(listed),
            // As in Kubernetes, `NotIn` also allows a node without the label.
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            // One value, and both are numbers: anything else matches no node.
            Operator::Gt => value.and_then(compared).is_some_and(std::cmp::Ordering::is_gt),
            Operator::Lt => value.and_then(compared).is_some_and(std::cmp::Ordering::is_lt),
        }
    }
}

/// A pool's `nodeSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSelector(Vec<Requirement>);

impl PoolSelector {
    /// Compiles a selector; the error is the operator that does not exist.
    pub fn new(selector: &LabelSelector) -> Result<Self, String> {
        let equals = selector.match_labels.iter().flatten().map(|(key, value)| Requirement {
            key: key.as_str().into(),
            operator: Operator::In,
            values: Box::new([value.as_str().into()]),
        });
        let mut all: Vec<_> = equals.collect();
        for expression in selector.match_expressions.iter().flatten() {
            // `Gt` and `Lt` exist in node affinity, but not in label selectors.
            let operator = Operator::parse(&expression.operator)
                .filter(|operator| !matches!(operator, Operator::Gt | Operator::Lt))
                .ok_or_else(|| expression.operator.clone())?;
            all.push(Requirement {
                key: expression.key.as_str().into(),
                operator,
                values: expression
                    .values
                    .iter()
                    .flatten()
                    .map(|value| value.as_str().into())
                    .collect(),
            });
        }
        Ok(Self(all))
    }

    /// Returns `true` if a node with these labels belongs to the pool.
    ///
    /// In Kubernetes an empty label selector matches everything. Here it matches no node: the
    /// schema rejects it, and a mistake must not open every node of the cluster to miners.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.0.is_empty()
            && self.0.iter().all(|one| one.allows(labels.get(&one.key).map(AsRef::as_ref)))
    }
}

/// One term of a node affinity; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    pub labels: Vec<Requirement>,
    /// Requirements on `metadata.name`, the only field that Kubernetes supports.
    pub fields: Vec<Requirement>,
}

impl Term {
    fn matches(&self, name: &str, labels: &Labels) -> bool {
        // In Kubernetes a term without requirements matches no node.
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|one| one.allows(labels.get(&one.key).map(AsRef::as_ref)))
            && self.fields.iter().all(|one| &*one.key == "metadata.name" && one.allows(Some(name)))
    }
}

/// A pod's `nodeSelector` and required node affinity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    pub labels: Vec<(Name, Name)>,
    /// The terms of the required affinity, of which one must hold; `None` without one.
    pub terms: Option<Vec<Term>>,
}

impl NodeFilter {
    /// Returns `true` if it has no constraint: every node passes.
    pub fn is_open(&self) -> bool {
        self.labels.is_empty() && self.terms.is_none()
    }

    /// Returns `true` if a node passes.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// Returns the node to which the affinity pins by `metadata.name`. Only a single term pins:
    /// each of several terms allows nodes of its own.
    pub fn pinned(&self) -> Option<&Name> {
        match self.terms.as_deref() {
            Some([Term { fields, .. }]) => fields.iter().find_map(|one| match &*one.values {
                [name] if one.operator == Operator::In && &*one.key == "metadata.name" => {
                    Some(name)
                }
                _ => None,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
    }

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
        Requirement {
            key: key.into(),
            operator,
            values: values.iter().map(|value| (*value).into()).collect(),
        }
    }

    #[test]
    fn requirements_compare_as_kubernetes_does() {
        use Operator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
        for (operator, values, value, expected) in [
            (In, &["a", "b"][..], Some("a"), true),
            (In, &["a", "b"], Some("c"), false),
            (In, &["a"], None, false),
            (NotIn, &["a"], Some("a"), false),
            (NotIn, &["a"], Some("b"), true),
            (NotIn, &["a"], None, true),
            (Exists, &[], Some(""), true),
            (Exists, &[], None, false),
            (DoesNotExist, &[], Some("a"), false),
            (DoesNotExist, &[], None, true),
            (Gt, &["5"], Some("6"), true),
            (Gt, &["5"], Some("5"), false),
            (Gt, &["5"], Some("six"), false),
            (Gt, &["5"], None, false),
            (Lt, &["5"], Some("-1"), true),
            (Lt, &["five"], Some("1"), false),
        ] {
            assert_eq!(
                requirement("k", operator, values).allows(value),
                expected,
                "{operator:?} {values:?} {value:?}"
            );
        }
    }

    #[test]
    fn one_term_must_hold_and_all_of_it() {
        let gpu = requirement("gpu", Operator::Exists, &[]);
        let west = requirement("zone", Operator::In, &["west"]);
        let filter = |terms: Vec<Term>| NodeFilter { labels: Vec::new(), terms: Some(terms) };
        let term = |labels: &[&Requirement]| Term {
            labels: labels.iter().map(|one| (*one).clone()).collect(),
            fields: Vec::new(),
        };
        let node = labels(&[("gpu", "yes"), ("zone", "east")]);
        assert!(filter(vec![term(&[&west]), term(&[&gpu])]).matches("n", &node));
        assert!(!filter(vec![term(&[&west, &gpu])]).matches("n", &node));
        assert!(!filter(vec![term(&[])]).matches("n", &node), "an empty term");
        assert!(!filter(vec![]).matches("n", &node), "no terms");
        assert!(NodeFilter::default().matches("n", &node));
    }

    #[test]
    fn a_pin_is_one_name_in_one_term() {
        let pin = NodeFilter {
            labels: Vec::new(),
            terms: Some(vec![Term {
                labels: Vec::new(),
                fields: vec![requirement("metadata.name", Operator::In, &["node-7"])],
            }]),
        };
        assert_eq!(pin.pinned().map(AsRef::as_ref), Some("node-7"));
        assert!(pin.matches("node-7", &Labels::default()));
        assert!(!pin.matches("node-8", &Labels::default()));
        assert_eq!(NodeFilter::default().pinned(), None);
    }

    #[test]
    fn pools_select_by_labels_and_expressions() {
        let selector: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"gpu": "a100"},
            "matchExpressions": [{"key": "legacy", "operator": "DoesNotExist"}],
        }))
        .unwrap();
        let selector = PoolSelector::new(&selector).unwrap();
        assert!(selector.matches(&labels(&[("gpu", "a100")])));
        assert!(!selector.matches(&labels(&[("gpu", "a100"), ("legacy", "")])));
        assert!(!selector.matches(&labels(&[])));
        assert!(!PoolSelector::default().matches(&labels(&[])));
        let wrong: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchExpressions": [{"key": "a", "operator": "Near"}],
        }))
        .unwrap();
        assert_eq!(PoolSelector::new(&wrong), Err("Near".to_owned()));
    }
}

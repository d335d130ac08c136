//! Taints and tolerations, compared as by kube-scheduler.

use daylight_base::Name;

/// Effect of a taint on pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They are not bound.
    NoSchedule,
    /// They are bound only if nothing else is left.
    PreferNoSchedule,
    /// They are not bound, and those that run are evicted.
    NoExecute,
}

impl Effect {
    /// Reads an effect as Kubernetes spells it.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "NoSchedule" => Self::NoSchedule,
            "PreferNoSchedule" => Self::PreferNoSchedule,
            "NoExecute" => Self::NoExecute,
            _ => return None,
        })
    }
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: Name,
    /// Often empty.
    pub value: Name,
    pub effect: Effect,
}

/// Taint of a node that is cordoned.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Taint of a node whose kubelet reports that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of a node whose kubelet does not report.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

impl Taint {
    /// Returns `true` if the planner's `NodeCondition` already covers this taint.
    pub fn is_condition(&self) -> bool {
        matches!(&*self.key, UNSCHEDULABLE | NOT_READY | UNREACHABLE)
    }
}

/// Operator of a toleration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Exists,
    Lt,
    Gt,
}

/// A toleration of a pod or a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Empty together with `Exists`: every taint.
    pub key: Name,
    pub comparison: Comparison,
    pub value: Name,
    /// `None`: every effect.
    pub effect: Option<Effect>,
}

impl Toleration {
    /// Reads a toleration; `None` if its operator or effect is unknown, so that it tolerates
    /// nothing.
    pub fn new(key: &str, operator: &str, value: &str, effect: &str) -> Option<Self> {
        Some(Self {
            key: key.into(),
            comparison: match operator {
                "" | "Equal" => Comparison::Equal,
                "Exists" => Comparison::Exists,
                "Lt" => Comparison::Lt,
                "Gt" => Comparison::Gt,
                _ => return None,
            },
            value: value.into(),
            effect: match effect {
                "" => None,
                effect => Some(Effect::parse(effect)?),
            },
        })
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|effect| effect != taint.effect) {
            return false;
        }
        // The API server accepts an empty key with `Exists` only.
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        // `Gt` and `Lt`, from Kubernetes 1.35 on: the taint's value is on the left, so `Gt 4`
        // tolerates 5. A value that is not a number is not tolerated.
        let compared = || {
            let bound: i64 = self.value.parse().ok()?;
            let value: i64 = taint.value.parse().ok()?;
            Some(value.cmp(&bound))
        };
        match self.comparison {
            Comparison::Equal => self.value == taint.value,
            Comparison::Exists => true,
            Comparison::Lt => compared().is_some_and(std::cmp::Ordering::is_lt),
            Comparison::Gt => compared().is_some_and(std::cmp::Ordering::is_gt),
        }
    }
}

/// Returns `true` if a pod with these tolerations can be bound to a node with these taints and
/// stay there.
///
/// `PreferNoSchedule` never keeps a pod from a node. The taints of a node's condition are ignored,
/// because they come and go with a state that the planner already considers for the whole node.
pub fn tolerated(tolerations: &[Toleration], taints: &[Taint]) -> bool {
    taints
        .iter()
        .filter(|taint| taint.effect != Effect::PreferNoSchedule && !taint.is_condition())
        .all(|taint| tolerations.iter().any(|one| one.tolerates(taint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_compare_as_kubernetes_does() {
        let taint =
            |key: &str, value: &str, effect| Taint { key: key.into(), value: value.into(), effect };
        let gpu = taint("nvidia.com/gpu", "present", Effect::NoSchedule);
        let level = taint("sla", "5", Effect::NoExecute);
        for (toleration, taint, expected) in [
            (("nvidia.com/gpu", "Exists", "", ""), &gpu, true),
            (("nvidia.com/gpu", "", "present", "NoSchedule"), &gpu, true),
            (("nvidia.com/gpu", "Equal", "absent", ""), &gpu, false),
            (("nvidia.com/gpu", "Equal", "", ""), &gpu, false),
            (("nvidia.com/gpu", "Exists", "", "NoExecute"), &gpu, false),
            (("", "Exists", "", ""), &gpu, true),
            (("amd.com/gpu", "Exists", "", ""), &gpu, false),
            (("sla", "Gt", "4", ""), &level, true),
            (("sla", "Lt", "4", ""), &level, false),
            (("sla", "Lt", "many", ""), &level, false),
        ] {
            let (key, operator, value, effect) = toleration;
            let read = Toleration::new(key, operator, value, effect).unwrap();
            assert_eq!(read.tolerates(taint), expected, "{toleration:?}");
        }
        assert_eq!(Toleration::new("a", "Near", "", ""), None);
        assert_eq!(Toleration::new("a", "", "", "Never"), None);
    }

    #[test]
    fn only_hard_taints_count_and_conditions_do_not() {
        let taints: Vec<Taint> = [
            (UNSCHEDULABLE, Effect::NoSchedule),
            (NOT_READY, Effect::NoExecute),
            (UNREACHABLE, Effect::NoExecute),
            ("soft", Effect::PreferNoSchedule),
        ]
        .map(|(key, effect)| Taint { key: key.into(), value: "".into(), effect })
        .into();
        assert!(tolerated(&[], &taints));
        let hard = Taint { key: "dedicated".into(), value: "".into(), effect: Effect::NoExecute };
        assert!(!tolerated(&[], &[hard]));
    }
}

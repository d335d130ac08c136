//! Facts that the API server does not show, and how to be safe without them.

use super::{Check, Findings, Level};

const BLIND_SPOTS: [(Check, &str); 5] = [
    (
        Check::ContainerRuntime,
        "Cannot check whether the NVIDIA container runtime obeys NVIDIA_VISIBLE_DEVICES of an image that requests no GPU: set accept-nvidia-visible-devices-envvar-when-unprivileged = false and accept-nvidia-visible-devices-as-volume-mounts = true in its config.toml, or use CDI.",
    ),
    (
        Check::StaticPods,
        "Cannot check whether kubelets run static pods: leave staticPodPath unset on the nodes of pools.",
    ),
    (
        Check::NodeAccess,
        "Cannot check who is root on a node or can reach its container runtime's socket: let no tenant log in there.",
    ),
    (
        Check::JournalVolume,
        "Cannot check who can read or write the volume of the auditor's journal outside the cluster: restrict its storage class and snapshots.",
    ),
    (
        Check::AuditLog,
        "Cannot check whether the API server keeps an audit log: in the mode Audit, refusals are recorded only there (--audit-log-path, --audit-policy-file).",
    ),
];

pub(super) fn list(findings: &mut Findings) {
    for (id, sentence) in BLIND_SPOTS {
        findings.add(id, Level::Unknown, sentence);
    }
}

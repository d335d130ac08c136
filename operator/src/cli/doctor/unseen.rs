//! What the API server does not tell, and what closes it.

use super::{Findings, Level};

const UNSEEN: [&str; 5] = [
    "Whether the NVIDIA container runtime obeys NVIDIA_VISIBLE_DEVICES of an image that asks for no GPU cannot be seen from here: set accept-nvidia-visible-devices-envvar-when-unprivileged = false and accept-nvidia-visible-devices-as-volume-mounts = true in its config.toml, or use CDI.",
    "Whether kubelets run static pods cannot be seen from here: leave staticPodPath unset on the nodes of pools.",
    "Who is root on a node, or can reach its container runtime's socket, cannot be seen from here: let no tenant log in there.",
    "Who can read or write the volume of the auditor's journal outside the cluster cannot be seen from here: restrict its storage class and snapshots.",
    "Whether the API server keeps an audit log cannot be seen from here: in the mode Audit it is where refusals would stand (--audit-log-path, --audit-policy-file).",
];

pub(super) fn tell(found: &mut Findings) {
    for sentence in UNSEEN {
        found.add(Level::Unknown, sentence);
    }
}

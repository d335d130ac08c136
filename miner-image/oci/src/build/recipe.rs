/// A program of the workspace, and the way its container runs it.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The command that builds it, and the name of its profile and of its files in cargo's target folder.
    pub command: &'static str,
    /// The package and its binary, which have one name.
    pub package: &'static str,
    /// The image's name without its tag, such as `example.org/program`.
    pub image: &'static str,
    pub description: &'static str,
    /// Arguments of the entry point, before those of a pod.
    pub arguments: &'static [&'static str],
    /// Exposed ports with their protocols, such as `80/tcp`.
    pub ports: &'static [&'static str],
    /// Features of the package in this image. The package's own defaults are not used: they include
    /// what only a dynamic program can do, so that one build of the workspace tests all of it.
    pub features: &'static [&'static str],
    /// Feature with which the program loads drivers, and the image's name then. A static program
    /// cannot load any.
    pub dynamic: Option<(&'static str, &'static str)>,
}

/// The image of Daylight's miner.
pub const MINER: Recipe = Recipe {
    command: "miner-image",
    package: "daylight-miner",
    image: "daylight.dev/miner",
    description: "Runs a mining engine and gives the device back in time",
    // `args` of a pod are the engine's, as with any other engine's image; the agent's own settings
    // have variables and a file.
    arguments: &["run", "--"],
    ports: &["9735/tcp"],
    features: &["randomx"],
    dynamic: Some(("gpu", "daylight.dev/miner-gpu")),
};

/// The image of the operator, which runs as controller and as auditor.
pub const OPERATOR: Recipe = Recipe {
    command: "operator-image",
    package: "daylight",
    image: "daylight.dev/operator",
    description: "Gives AI jobs every GPU they ask for, fills the rest with registered miners, and keeps an audit log",
    // A pod's first argument names the process.
    arguments: &[],
    // The controller's metrics and the auditor's.
    ports: &["8080/tcp", "8081/tcp"],
    features: &[],
    dynamic: None,
};

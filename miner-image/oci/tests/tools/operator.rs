//! The operator's image.

use serde_json::json;

use super::{
    Bundle, Containerd, Outcome, World, has_these_files, operator_builder, run, skopeo_reads,
    unpack,
};

/// Bytes that the program, and the image as it is pulled, may have.
const LIMITS: (u64, u64) = (25_000_000, 12_000_000);

pub(super) fn its_image_stays_small(world: &World) -> Outcome {
    let built = world.operator()?;
    let sizes = (built.program, built.pulled);
    assert!(sizes.0 <= LIMITS.0 && sizes.1 <= LIMITS.1, "{sizes:?}");
    Ok(())
}

pub(super) fn its_image_has_these_files(world: &World) -> Outcome {
    has_these_files(world.operator()?, "daylight")
}

pub(super) fn skopeo_reads_both_forms(world: &World) -> Outcome {
    skopeo_reads(world.operator()?, "daylight", &json!(["/daylight"]))
}

pub(super) fn load_hands_it_to_containerd(world: &World) -> Outcome {
    let operator = world.operator()?;
    let containerd = Containerd::start()?;
    let place = |name: &str| containerd.scratch.path().join(name);
    unpack(&operator.path("layout"), &place("operator"))?;
    let said = run(operator_builder()
        .env("CONTAINERD_SNAPSHOTTER", "native")
        .args(["--load", "--containerd"])
        .arg(&containerd.socket)
        .arg("--binary")
        .arg(place("operator/daylight"))
        .arg("--output")
        .arg(place("operator.tar")))?;
    assert!(said.contains("loaded  daylight.dev/operator:"), "{said}");
    containerd.has("daylight.dev/operator", operator)?;

    let refused = operator_builder()
        .args(["--load", "--containerd", "/no-such-socket", "--binary"])
        .arg(place("operator/daylight"))
        .arg("--output")
        .arg(place("operator.tar"))
        .output()?;
    let says = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{says}");
    assert!(
        says.starts_with("operator-image: containerd at /no-such-socket did not take "),
        "{says}"
    );
    Ok(())
}

pub(super) fn runc_runs_it(world: &World) -> Outcome {
    let mut bundle = Bundle::of(world.operator()?)?;
    let entry_point = bundle.config["process"]["args"].as_array().cloned().unwrap_or_default();
    let mut with = |name: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(|&argument| argument.into());
        bundle.run(name, &entry_point.iter().cloned().chain(arguments).collect())
    };
    let answer = with("operator-version", &["--version"])?;
    let version = format!("daylight {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&answer.stdout), version, "{answer:?}");
    // As in a pod without a service account.
    let refusal = with("operator-alone", &["controller"])?;
    assert_eq!(refusal.status.code(), Some(1), "{refusal:?}");
    let says = String::from_utf8_lossy(&refusal.stderr);
    assert!(says.contains("kubeconfig"), "{says}");
    Ok(())
}

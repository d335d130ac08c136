//! The manifest for `kubectl apply` is the rendered chart.

use std::path::Path;

use daylight_testbed::trials::{apply, trial};

use crate::cluster::{Cluster, SYSTEM, chart};

const HEAD: &str = "\
# Daylight, for `kubectl apply`: charts/daylight, rendered with its default values. See
# docs/install.md. Generated: change the chart, not this file.
#
# Replace registry.example.com/daylight:0.1.0 with your own image.
apiVersion: v1
kind: Namespace
metadata:
  name: daylight-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

#[apply(trial!)]
async fn the_plain_manifest_is_the_rendered_chart(cluster: &Cluster) {
    let daylight = chart("daylight");
    // Hooks are Helm's: kubectl would apply the presets again and again, and delete them.
    let rendered = ["template", "daylight", &daylight, "--no-hooks", "--namespace", SYSTEM];
    let rendered = cluster.control_plane.helm_ok(rendered).await.unwrap();
    let mut wanted = HEAD.to_owned();
    for line in rendered.lines().filter(|line| !line.starts_with("# Source: ")) {
        wanted.push_str(line.trim_end());
        wanted.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install/daylight.yaml");
    if std::env::var_os("WRITE_MANIFEST").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == wanted,
        "docs/install/daylight.yaml differs from charts/daylight: run `WRITE_MANIFEST=1 cargo \
         test -p daylight --test admission -- manifest` and commit the result"
    );
    cluster
        .control_plane
        .kubectl_ok(["apply", "--dry-run=server", "-f", path.to_str().unwrap()])
        .await
        .unwrap();
}

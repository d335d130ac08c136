//! The custom resource definitions, and their YAML.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::{ActivityClass, AiJob, GpuPool, Miner, Registration, schema};

/// The definitions of all kinds, as they are published.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        finished(GpuPool::crd()),
        finished(ActivityClass::crd()),
        finished(Registration::crd()),
        finished(Miner::crd()),
        finished(AiJob::crd()),
    ]
}

/// The YAML of a definition: the same definition always gives the same bytes.
pub fn manifest(definition: &CustomResourceDefinition) -> String {
    serde_saphyr::to_string(definition).unwrap_or_default()
}

fn finished(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let Some(validation) = version.schema.as_mut() else {
            continue;
        };
        let Some(root) = validation.open_api_v3_schema.take() else {
            continue;
        };
        let finished = serde_json::to_value(root)
            .map(|mut value| {
                schema::finish(&mut value);
                value
            })
            .and_then(serde_json::from_value);
        validation.open_api_v3_schema = finished.ok();
    }
    definition
}

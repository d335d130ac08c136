//! Schemas with bounds and descriptions for Kubernetes' own types.
//!
//! The types are those of `k8s-openapi`. Their upstream schemas state no maximum lengths, from
//! which the API server estimates the cost of CEL rules.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::{JsonSchema as _, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// `metav1.Condition`, with the limits that Kubernetes states for it.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "The aspect, for instance Ready.",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "type": "string",
                    "description": "True, False, or Unknown.",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "type": "string",
                    "description": "The reason as one word, for programs, for instance WindowClosed.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "The reason as one sentence, for people.",
                    "maxLength": 32768,
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The metadata.generation that this condition was computed from.",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status last changed.",
                },
            },
        },
    })
}

/// `metav1.LabelSelector` over node labels.
pub(crate) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels with the values they must have.",
                "maxProperties": 32,
                "additionalProperties": { "type": "string", "maxLength": 63 },
            },
            "matchExpressions": {
                "type": "array",
                "description": "Conditions on labels, all of which must hold.",
                "maxItems": 32,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "description": "One condition on a label.",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {
                            "type": "string",
                            "description": "The label's key.",
                            "minLength": 1,
                            "maxLength": 317,
                        },
                        "operator": {
                            "type": "string",
                            "description": "In, NotIn, Exists or DoesNotExist.",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "type": "array",
                            "description": "The values for In and NotIn; absent for Exists and DoesNotExist.",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": { "type": "string", "maxLength": 63 },
                        },
                    },
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
                        "message": "values must have at least one entry for In and NotIn, and be absent for Exists and DoesNotExist: correct values or operator",
                        "fieldPath": ".values",
                    }],
                },
            },
        },
        "x-kubernetes-validations": [{
            "rule": "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            "message": "nodeSelector must not be empty, since it would select every node: set matchLabels or matchExpressions",
        }],
    })
}

/// `corev1.Toleration`s.
pub(crate) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "description": "A taint that pods on the pool's nodes tolerate.",
            "properties": {
                "key": {
                    "type": "string",
                    "description": "The taint's key; empty with operator Exists means every taint.",
                    "maxLength": 317,
                },
                "operator": {
                    "type": "string",
                    "description": "Equal (the default), Exists, Lt or Gt.",
                    "enum": ["Equal", "Exists", "Lt", "Gt"],
                },
                "value": {
                    "type": "string",
                    "description": "The taint's value for operator Equal.",
                    "maxLength": 63,
                },
                "effect": {
                    "type": "string",
                    "description": "NoSchedule, PreferNoSchedule or NoExecute; absent means all of them.",
                    "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                },
                "tolerationSeconds": {
                    "type": "integer",
                    "format": "int64",
                    "description": "Seconds for which a NoExecute taint is tolerated; absent means without limit.",
                },
            },
            "x-kubernetes-validations": [
                {
                    "rule": "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
                    "message": "a toleration without key must have operator Exists: set key, or operator: Exists",
                    "fieldPath": ".key",
                },
                {
                    "rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                    "message": "tolerationSeconds needs effect NoExecute: set effect, or remove tolerationSeconds",
                    "fieldPath": ".tolerationSeconds",
                },
            ],
        },
    })
}

/// Environment variables with plain values. Secrets have their own fields.
pub(crate) fn plain_env(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "description": "One environment variable.",
            "required": ["name"],
            "properties": {
                "name": {
                    "type": "string",
                    "description": "The variable's name.",
                    "minLength": 1,
                    "maxLength": 253,
                },
                "value": {
                    "type": "string",
                    "description": "The variable's value.",
                    "maxLength": 4096,
                },
            },
        },
    })
}

/// A Kubernetes resource quantity: `500m`, `4`, `16Gi`.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "x-kubernetes-validations": [{
            "rule": "size(string(self)) <= 32 && isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",
            "message": "must be a quantity above 0, such as 500m, 4 or 16Gi",
        }],
        "maxLength": 32,
    })
}

/// A count, or a percentage.
pub(crate) fn count_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "x-kubernetes-validations": [{
            "rule": "string(self).matches('^(100|[1-9]?[0-9])%$') || (string(self).matches('^[0-9]{1,7}$') && self == int(string(self)) && int(string(self)) <= 1000000)",
            "message": "must be a count from 0 to 1000000 such as 8, without quotes, or a percentage from 0% to 100% such as \"5%\"",
        }],
        // Longer than any valid text, so that the rule's message is what a user sees.
        "maxLength": 32,
    })
}

/// `corev1.PodTemplateSpec` without descriptions, its metadata reduced to labels and annotations,
/// and to what programs add to them.
pub(crate) fn pod_template(generator: &mut SchemaGenerator) -> Schema {
    let mut template = PodTemplateSpec::json_schema(generator).to_value();
    // The descriptions alone would make the definition too big for client-side `kubectl apply`.
    strip_descriptions(&mut template);
    template["properties"]["metadata"] = json!({
        "type": "object",
        "properties": {
            "labels": {
                "type": "object",
                "maxProperties": 64,
                "additionalProperties": { "type": "string", "maxLength": 63 },
            },
            "annotations": {
                "type": "object",
                "maxProperties": 64,
                "additionalProperties": { "type": "string", "maxLength": 65536 },
            },
            // Programs write it as null. Server-side apply refuses a field that is not declared, where
            // other requests drop it.
            "creationTimestamp": { "type": "string", "format": "date-time" },
        },
    });
    template["required"] = json!(["spec"]);
    let spec = &mut template["properties"]["spec"]["properties"];
    for (list, most) in [("containers", 32), ("initContainers", 32)] {
        spec[list]["maxItems"] = json!(most);
    }
    spec["containers"]["minItems"] = json!(1);
    // Ephemeral containers can be added to running pods only.
    if let Value::Object(fields) = spec {
        fields.remove("ephemeralContainers");
    }
    Schema::try_from(template).unwrap_or_default()
}

/// Removes the keyword `description` from `schema` and all schemas in it, but no property of that
/// name.
fn strip_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("description");
            for (keyword, value) in object.iter_mut() {
                if keyword == "properties" {
                    if let Value::Object(properties) = value {
                        properties.values_mut().for_each(strip_descriptions);
                    }
                } else {
                    strip_descriptions(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip_descriptions),
        _ => {}
    }
}

//! A Job that knows nothing of Daylight.

/// Returns a `batch/v1` Job of `pods` pods of one GPU each.
pub(super) fn manifest(name: &str, pods: u32) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  namespace: ai-team
spec:
  completions: {pods}
  parallelism: {pods}
  template:
    metadata:
      labels:
        daylight.dev/activity: ai-inference
      annotations:
        daylight.dev/simulated-run-time: 10m
    spec:
      restartPolicy: Never
      containers:
        - name: worker
          image: docker.io/library/busybox:1.37
          command: [sleep, \"600\"]
          resources:
            requests: {{cpu: 500m, memory: 256Mi}}
            limits: {{nvidia.com/gpu: 1}}
"
    )
}

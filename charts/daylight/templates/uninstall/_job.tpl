{{- /* Annotations of what exists only during an uninstallation. */}}
{{- define "daylight.uninstallHook" -}}
helm.sh/hook: {{ .events }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-output-log-policy: hook-failed
{{- end }}

{{- /* A Job that runs one command of the image during an uninstallation. */}}
{{- define "daylight.uninstallJob" -}}
{{- $values := .chart.Values }}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .name }}
  namespace: {{ .chart.Release.Namespace }}
  labels:
    app.kubernetes.io/name: daylight
    app.kubernetes.io/component: uninstall
  annotations:
    {{- include "daylight.uninstallHook" (dict "events" .events "weight" "0") | nindent 4 }}
spec:
  backoffLimit: 3
  activeDeadlineSeconds: {{ .deadline }}
  ttlSecondsAfterFinished: 600
  template:
    metadata:
      labels:
        app.kubernetes.io/name: daylight
        app.kubernetes.io/component: uninstall
    spec:
      restartPolicy: Never
      serviceAccountName: daylight-uninstall
      {{- with $values.controller.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.image.pullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      {{- with $values.controller.nodeSelector }}
      nodeSelector: {{ toJson . }}
      {{- end }}
      {{- with $values.controller.tolerations }}
      tolerations: {{ toJson . }}
      {{- end }}
      securityContext:
        {{- include "daylight.podSecurity" . | nindent 8 }}
      containers:
        - name: daylight
          image: {{ include "daylight.image" .chart }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args: {{ toJson .args }}
          env:
            {{- include "daylight.namespaceVariable" . | nindent 12 }}
          resources:
            requests: {cpu: 50m, memory: 64Mi, ephemeral-storage: 16Mi}
            limits: {memory: 256Mi, ephemeral-storage: 64Mi}
          securityContext:
            {{- include "daylight.containerSecurity" . | nindent 12 }}
{{- end }}

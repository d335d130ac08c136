{{- define "daylight.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "daylight.controller" -}}
system:serviceaccount:{{ .Release.Namespace }}:daylight-controller
{{- end }}

{{- define "daylight.auditor" -}}
system:serviceaccount:{{ .Release.Namespace }}:daylight-auditor
{{- end }}

{{- /* The validation actions of a policy that follows admission.mode. */}}
{{- define "daylight.actions" -}}
{{- if eq .Values.admission.mode "Enforce" }}[Deny, Audit]
{{- else if eq .Values.admission.mode "Warn" }}[Warn, Audit]
{{- else }}[Audit]
{{- end }}
{{- end }}

{{- /* Selects the namespaces that are not exempt, by the label that the API server sets. */}}
{{- define "daylight.outsideExempt" -}}
{key: kubernetes.io/metadata.name, operator: NotIn, values: {{ append .Values.admission.exemptNamespaces .Release.Namespace | uniq | toJson }}}
{{- end }}

{{- /* CEL: whether the string `of` matches one of `names`, which may end in `*`. */}}
{{- define "daylight.isOneOf" -}}
{{- $exact := list }}{{ $prefixes := list }}
{{- range .names }}
{{- if hasSuffix "*" . }}{{ $prefixes = append $prefixes (trimSuffix "*" .) }}
{{- else }}{{ $exact = append $exact . }}{{ end }}
{{- end -}}
({{ .of }} in {{ toJson $exact }}
{{- $of := .of }}
{{- range $prefixes }} || {{ $of }}.startsWith({{ toJson . }}){{ end }})
{{- end }}

{{- /* CEL: whether the resource `r` is a GPU. */}}
{{- define "daylight.isGpu" -}}
{{- $names := .Values.gpuResources }}
{{- range .Values.deviceClasses }}{{ $names = append $names (printf "deviceclass.resource.kubernetes.io/%s" .) }}{{ end }}
{{- include "daylight.isOneOf" (dict "of" "r" "names" $names) }}
{{- end }}

{{- /* CEL variables of policies for pods: the pod's name for messages, and its class. */}}
{{- define "daylight.podVariables" -}}
- name: pod
  expression: "'Pod ' + object.metadata.name + ' in namespace ' + request.namespace"
- name: ownClass
  expression: object.metadata.?labels['daylight.dev/activity'].orValue('')
- name: class
  expression: >-
    variables.ownClass != '' ? variables.ownClass : namespaceObject.metadata.?labels['daylight.dev/activity'].orValue('')
{{- end }}

{{- /* CEL: the containers of a pod, of all kinds. */}}
{{- define "daylight.containers" -}}
object.spec.containers + object.spec.?initContainers.orValue([]) + object.spec.?ephemeralContainers.orValue([])
{{- end }}

{{- /* CEL: whether the requesting user may start pods of the class `of`. */}}
{{- define "daylight.mayAssign" -}}
authorizer.group('daylight.dev').resource('activityclasses').name({{ . }}).check('assign').allowed()
{{- end }}

{{- /* The list of classes as the parameter of a binding. */}}
{{- define "daylight.classList" -}}
paramRef:
  name: daylight-classes
  namespace: {{ .Release.Namespace }}
  parameterNotFoundAction: Allow
{{- end }}

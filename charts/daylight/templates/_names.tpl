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

{{- /* JSON: `names` that end in `*` as `prefixes`, and the others as `exact`, with `end` after each. */}}
{{- define "daylight.byEnd" -}}
{{- $exact := list }}{{ $prefixes := list }}{{ $end := .end }}
{{- range .names }}
{{- if hasSuffix "*" . }}{{ $prefixes = append $prefixes (trimSuffix "*" .) }}
{{- else }}{{ $exact = append $exact (print . $end) }}{{ end }}
{{- end -}}
{{ dict "exact" $exact "prefixes" $prefixes | toJson }}
{{- end }}

{{- /* CEL: whether the string `of` matches one of `names`, which may end in `*`. */}}
{{- define "daylight.isOneOf" -}}
{{- $names := include "daylight.byEnd" (dict "names" .names "end" "") | fromJson -}}
({{ .of }} in {{ toJson $names.exact }}
{{- $of := .of }}
{{- range $names.prefixes }} || {{ $of }}.startsWith({{ toJson . }}){{ end }})
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

{{- /* CEL: the containers of the pod spec with this name, of all kinds. */}}
{{- define "daylight.containersOf" -}}
{{ . }}.containers + {{ . }}.?initContainers.orValue([]) + {{ . }}.?ephemeralContainers.orValue([])
{{- end }}

{{- /* CEL: the containers of a pod, of all kinds. */}}
{{- define "daylight.containers" -}}
{{ include "daylight.containersOf" "object.spec" }}
{{- end }}

{{- /* CEL: whether the requesting user may start pods of the class `of`. */}}
{{- define "daylight.mayAssign" -}}
authorizer.group('daylight.dev').resource('activityclasses').name({{ . }}).check('assign').allowed()
{{- end }}

{{- /* The list of classes as the parameter of a binding. */}}
{{- define "daylight.classList" -}}
paramRef:
  name: classes
  namespace: {{ .Release.Namespace }}
  parameterNotFoundAction: Allow
{{- end }}

{{- /* Names of the namespaces in which Daylight runs nothing of tenants. */}}
{{- define "daylight.exempt" -}}
{{ append .Values.admission.exemptNamespaces .Release.Namespace | uniq | toJson }}
{{- end }}

{{- /* CEL variables: what of the pod spec `spec` gives access to the node: `privileged` (containers),
`paths` (host paths that give access as such) and `writablePaths` (those that do if a container may write there). */}}
{{- define "daylight.nodeAccess" -}}
{{- $devices := include "daylight.byEnd" (dict "names" .values.devicePaths "end" "/") | fromJson }}
{{- $nodes := include "daylight.byEnd" (dict "names" .values.nodePaths "end" "/") | fromJson -}}
- name: containers
  expression: {{ include "daylight.containersOf" .spec }}
# Container runtimes take capabilities in any case, with and without CAP_.
- name: privileged
  expression: >-
    variables.containers.filter(container, container.?securityContext.privileged.orValue(false) ||
    container.?securityContext.capabilities.add.orValue([]).exists(capability, capability.upperAscii().replace('CAP_', '') in ['ALL', 'BPF', 'DAC_READ_SEARCH', 'PERFMON', 'SYS_ADMIN', 'SYS_BOOT', 'SYS_MODULE', 'SYS_RAWIO']))
# Normalised: without empty parts and `.`, and with /run for its link /var/run.
- name: hostVolumes
  expression: >-
    {{ .spec }}.?volumes.orValue([]).filter(volume, has(volume.hostPath))
- name: hostPaths
  expression: >-
    variables.hostVolumes
    .map(volume, '/' + volume.hostPath.path.split('/').filter(part, part != '' && part != '.').map(part, part + '/').join())
    .map(path, path.startsWith('/var/run/') ? path.substring(4) : path)
- name: paths
  expression: >-
    variables.hostPaths.filter(path,
    {{ toJson $devices.exact }}.exists(device, path.startsWith(device) || device.startsWith(path)) ||
    {{ toJson $devices.prefixes }}.exists(device, path.startsWith(device) || device.startsWith(path)))
- name: nodePaths
  expression: >-
    variables.hostPaths.transformList(at, path,
    {{ toJson $nodes.exact }}.exists(node, path.startsWith(node) || node.startsWith(path)) ||
    {{ toJson $nodes.prefixes }}.exists(node, path.startsWith(node) || node.startsWith(path)), variables.hostVolumes[at].name)
- name: writablePaths
  expression: >-
    variables.nodePaths.size() == 0 ? [] : variables.containers.filter(container, container.?volumeMounts.orValue([]).exists(mount,
    !mount.?readOnly.orValue(false) && mount.name in variables.nodePaths))
{{- end }}

{{- /* Annotations of an object that Helm creates once and leaves to the users. The delete policy is one that never
applies to it: without any, Helm would delete the object before it creates it. */}}
{{- define "daylight.keptHook" -}}
helm.sh/hook: post-install,post-upgrade
helm.sh/hook-delete-policy: hook-failed
{{- end }}

{{- /* Not empty if the cluster has no object of this kind, or cannot be asked. `lookup` fails where the kind is not
defined. */}}
{{- define "daylight.hasNone" -}}
{{- $defined := .chart.Capabilities.APIVersions.Has (print "daylight.dev/v1alpha1/" .kind) }}
{{- if not (and $defined (lookup "daylight.dev/v1alpha1" .kind "" "").items) }}yes{{ end }}
{{- end }}

{{- /* Refuses values that lack a switch or number of values.yaml, or a group with one: --reuse-values takes the values
from an older chart. What else users set to null may be absent. */}}
{{- define "daylight.requireDefaults" -}}
{{- range $name, $default := .defaults }}
{{- $path := print $.path $name }}
{{- if regexMatch "(^|:)(true|false|[0-9])" (toJson $default) }}
{{- if not (hasKey $.values $name) }}
{{- fail (printf "The value %s is missing. --reuse-values keeps the values of an older chart: use --reset-then-reuse-values instead." $path) }}
{{- end }}
{{- if kindIs "map" $default }}
{{- include "daylight.requireDefaults" (dict "defaults" $default "values" (index $.values $name) "path" (print $path ".")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What the standard `restricted` of Pod Security asks of a pod and of its container. */}}
{{- define "daylight.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "daylight.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The variable by which the program knows Daylight's namespace. */}}
{{- define "daylight.namespaceVariable" -}}
- name: DAYLIGHT_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}

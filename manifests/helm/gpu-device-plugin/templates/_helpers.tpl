{{- define "gpu-device-plugin.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "gpu-device-plugin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gpu-device-plugin.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "gpu-device-plugin.selectorLabels" -}}
{{- if .Values.selectorLabelsOverride -}}
{{- toYaml .Values.selectorLabelsOverride -}}
{{- else -}}
app.kubernetes.io/name: {{ include "gpu-device-plugin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- if (.Values.componentSelectorLabels).enabled }}
app.kubernetes.io/component: device-plugin
{{- end }}
{{- end -}}
{{- end -}}

{{- define "gpu-device-plugin.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "gpu-device-plugin.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "gpu-device-plugin.image" -}}
{{- $tag := ternary .Chart.AppVersion (toString .Values.image.tag) (empty .Values.image.tag) -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}

{{- define "gpu-device-plugin.serviceAccountName" -}}
{{- $account := .Values.serviceAccount | default dict -}}
{{- if $account.name -}}
{{- $account.name -}}
{{- else if $account.create -}}
{{- include "gpu-device-plugin.fullname" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "gpu-device-plugin.configMapName" -}}
{{- if (.Values.config).map -}}
{{- printf "%s-configs" (include "gpu-device-plugin.fullname" .) -}}
{{- else -}}
{{- (.Values.config).name -}}
{{- end -}}
{{- end -}}

{{/*
What the node agent does, as YAML: labels (off, node, nodefeature), condition and taint (type and key, or empty),
summary, events, podEvents, config (whether a label chooses the config file), release (whether one releases NVML), and
enabled: whether it does anything.
*/}}
{{- define "gpu-device-plugin.agent" -}}
{{- $agent := .Values.nodeAgent | default dict -}}
{{- /* Without quotes, YAML reads `off` as false. */ -}}
{{- $off := ternary "off" (ternary "node" "off" (eq (toString .Values.gfd.enabled) "true")) (kindIs "bool" $agent.labels) -}}
{{- $labels := $agent.labels | default $off -}}
{{- $condition := $agent.nodeCondition -}}
{{- if kindIs "bool" $condition -}}
{{- $condition = ternary "GPUUnhealthy" "" $condition -}}
{{- end -}}
{{- $taint := $agent.taint -}}
{{- if kindIs "bool" $taint -}}
{{- $taint = ternary "nvidia.com/gpu-unhealthy" "" $taint -}}
{{- end -}}
{{- $release := eq (toString $agent.releaseByLabel) "true" -}}
{{- $summary := eq (toString $agent.summary) "true" -}}
{{- $events := eq (toString $agent.events) "true" -}}
{{- $podEvents := eq (toString $agent.podEvents) "true" -}}
{{- $named := or (not (empty (.Values.config).name)) (not (empty (.Values.config).map)) -}}
{{- $config := ternary $named (eq (toString $agent.configByLabel) "true") (kindIs "invalid" $agent.configByLabel) -}}
labels: {{ $labels | quote }}
condition: {{ $condition | default "" | quote }}
taint: {{ $taint | default "" | quote }}
summary: {{ $summary }}
events: {{ $events }}
podEvents: {{ $podEvents }}
config: {{ $config }}
release: {{ $release }}
enabled: {{ or $release (ne $labels "off") (not (empty $condition)) (not (empty $taint)) $summary $events $podEvents $config }}
{{- end -}}

{{/*
The key of the config file, or nothing where there is none: config.default, or the first fallback that finds one, as
NVIDIA's config manager chooses for a node without a label.
*/}}
{{- define "gpu-device-plugin.configKey" -}}
{{- $config := .Values.config | default dict -}}
{{- $name := include "gpu-device-plugin.configMapName" . -}}
{{- if $name -}}
{{- $data := $config.map | default dict -}}
{{- if not $config.map -}}
{{- /* Empty while nothing is installed, as in `helm template`. */ -}}
{{- $data = (lookup "v1" "ConfigMap" (include "gpu-device-plugin.namespace" .) $name).data | default dict -}}
{{- end -}}
{{- $known := keys $data | sortAlpha -}}
{{- $key := $config.default | default "" -}}
{{- if $key -}}
{{- if and $known (not (hasKey $data $key)) -}}
{{- fail (printf "\nconfig.default is %q, and the ConfigMap has: %s." $key (join ", " $known)) -}}
{{- end -}}
{{- else -}}
{{- $found := false -}}
{{- range $config.fallbackStrategies -}}
{{- if not $found -}}
{{- if and (eq . "named") (or (hasKey $data "default") (not $known)) -}}
{{- $key = "default" -}}
{{- $found = true -}}
{{- else if and (eq . "single") (eq (len $known) 1) -}}
{{- $key = first $known -}}
{{- $found = true -}}
{{- else if eq . "empty" -}}
{{- $found = true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "\nNo config file is chosen: set config.default to one of the keys (%s), or add a fallback to config.fallbackStrategies:\nnamed is the key \"default\", single is the only key, empty is no config file." (join ", " $known | default "not known while rendering")) -}}
{{- end -}}
{{- end -}}
{{- $key -}}
{{- end -}}
{{- end -}}

{{/*
What is known about the config file, as YAML: its content under `file`, those of all that may be in force under
`files`, `unknown` where they are in a ConfigMap that is not part of this release. The key of such a one is a guess
unless config.default says it, so that the agent's choice counts rather.
*/}}
{{- define "gpu-device-plugin.config" -}}
{{- $agent := include "gpu-device-plugin.agent" . | fromYaml -}}
{{- $key := include "gpu-device-plugin.configKey" . -}}
{{- $map := (.Values.config).map | default dict -}}
{{- $known := dict -}}
{{- range $name, $text := $map -}}
{{- if or $agent.config (eq $name $key) -}}
{{- $file := fromYaml $text -}}
{{- if hasKey $file "Error" -}}
{{- fail (printf "\nconfig.map.%s is no config file: %s" $name (index $file "Error")) -}}
{{- end -}}
{{- $_ := set $known $name $file -}}
{{- end -}}
{{- end -}}
{{- $unknown := and (not (empty (.Values.config).name)) (or $agent.config (ne $key "")) -}}
{{- $isGuess := and $unknown $agent.config (empty (.Values.config).default) (empty (lookup "v1" "ConfigMap" (include "gpu-device-plugin.namespace" .) .Values.config.name)) -}}
{{- dict "key" (ternary "" $key $isGuess) "mounted" (or $agent.config (ne $key "")) "unknown" $unknown "file" (get $known $key | default dict) "files" (values $known) | toYaml -}}
{{- end -}}

{{/*
What the strategies need of the pod, as YAML: mig, volumeMounts, cdi, ownHook and mps, each true where it may be in use. What
this chart cannot see counts as in use.
*/}}
{{- define "gpu-device-plugin.needs" -}}
{{- $config := include "gpu-device-plugin.config" . | fromYaml -}}
{{- $mig := list -}}
{{- $list := list -}}
{{- $mps := $config.unknown -}}
{{- range $config.files -}}
{{- $flags := .flags | default dict -}}
{{- $plugin := $flags.plugin | default dict -}}
{{- $mig = append $mig ($flags.migStrategy | default "none") -}}
{{- $list = concat $list (kindIs "slice" $plugin.deviceListStrategy | ternary $plugin.deviceListStrategy (list ($plugin.deviceListStrategy | default ""))) -}}
{{- $mps = or $mps (not (empty (.sharing).mps)) -}}
{{- end -}}
{{- if $config.unknown -}}
{{- $mig = list "mixed" -}}
{{- $list = list "volume-mounts" "cdi-cri" -}}
{{- end -}}
{{- if .Values.migStrategy -}}
{{- $mig = list .Values.migStrategy -}}
{{- end -}}
{{- $list = include "gpu-device-plugin.deviceListStrategy" . | default (join "," $list) -}}
mig: {{ not (empty (without $mig "none")) }}
volumeMounts: {{ contains "volume-mounts" $list }}
cdi: {{ contains "cdi-" $list }}
ownHook: {{ and (contains "cdi-" $list) (ne (toString .Values.cdi.hookMode) "host") }}
mps: {{ or $mps (eq (toString .Values.mps.enabled) "true") }}
{{- end -}}

{{/*
Whether the pods that supervise MPS control daemons are installed: as mps.enabled says, or where the config file, as far
as this chart sees it, shares by MPS.
*/}}
{{- define "gpu-device-plugin.mpsDaemon" -}}
{{- if kindIs "invalid" .Values.mps.enabled -}}
{{- $config := include "gpu-device-plugin.config" . | fromYaml -}}
{{- $needs := include "gpu-device-plugin.needs" . | fromYaml -}}
{{- and $needs.mps (not $config.unknown) -}}
{{- else -}}
{{- eq (toString .Values.mps.enabled) "true" -}}
{{- end -}}
{{- end -}}

{{- define "gpu-device-plugin.mpsName" -}}
{{- printf "%s-mps" (include "gpu-device-plugin.fullname" . | trunc 59 | trimSuffix "-") -}}
{{- end -}}

{{- define "gpu-device-plugin.mpsSelectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-mps" (include "gpu-device-plugin.name" . | trunc 59 | trimSuffix "-") }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gpu-device-plugin.deviceListStrategy" -}}
{{- if kindIs "slice" .Values.deviceListStrategy -}}
{{- join "," .Values.deviceListStrategy -}}
{{- else -}}
{{- .Values.deviceListStrategy | default "" -}}
{{- end -}}
{{- end -}}

{{/* With a security context of one's own, what that says. */}}
{{- define "gpu-device-plugin.privileged" -}}
{{- if .Values.securityContext -}}
{{- eq (toString .Values.securityContext.privileged) "true" -}}
{{- else -}}
{{- ne (toString .Values.privileged) "false" -}}
{{- end -}}
{{- end -}}

{{/* The name of this release's own SecurityContextConstraints, which belong to no namespace. */}}
{{- define "gpu-device-plugin.ownScc" -}}
{{- printf "%s-%s" (include "gpu-device-plugin.namespace" .) (include "gpu-device-plugin.fullname" .) -}}
{{- end -}}

{{/* The SecurityContextConstraints that admit the pod. Of a security context of one's own nothing is known. */}}
{{- define "gpu-device-plugin.scc" -}}
{{- if .Values.openshift.scc -}}
{{- .Values.openshift.scc -}}
{{- else if or .Values.securityContext (eq (include "gpu-device-plugin.privileged" .) "true") -}}
privileged
{{- else -}}
{{- include "gpu-device-plugin.ownScc" . -}}
{{- end -}}
{{- end -}}

{{/* The API server refuses a DaemonSet with both numbers, and the chart's default has one. */}}
{{- define "gpu-device-plugin.updateStrategy" -}}
{{- $strategy := deepCopy .Values.updateStrategy -}}
{{- if eq ($strategy.type | default "RollingUpdate") "OnDelete" -}}
type: OnDelete
{{- else -}}
{{- $rolling := $strategy.rollingUpdate | default dict -}}
{{- if not (has (toString $rolling.maxSurge) (list "<nil>" "0" "0%" "")) -}}
{{- $_ := set $rolling "maxUnavailable" 0 -}}
{{- end -}}
{{- toYaml $strategy -}}
{{- end -}}
{{- end -}}

{{/* The variables of the plugin's container, as a YAML list. Those of the values take the place of the chart's own. */}}
{{- define "gpu-device-plugin.env" -}}
{{- $config := include "gpu-device-plugin.config" . | fromYaml -}}
{{- $needs := include "gpu-device-plugin.needs" . | fromYaml -}}
{{- $flags := $config.file.flags | default dict -}}
{{- $privileged := eq (include "gpu-device-plugin.privileged" .) "true" -}}
{{- $root := .Values.nvidiaDriverRoot | default "" -}}
{{- $pairs := list -}}
{{- if $config.key -}}
{{- $pairs = append $pairs (list "CONFIG_FILE" (printf "/available-configs/%s" $config.key)) -}}
{{- end -}}
{{- $agent := include "gpu-device-plugin.agent" . | fromYaml -}}
{{- if $agent.config -}}
{{- $pairs = append $pairs (list "CONFIG_DIR" "/available-configs") -}}
{{- end -}}
{{- if $agent.release -}}
{{- $pairs = append $pairs (list "RELEASE_FILE" "/run/gpu-node-agent/release") -}}
{{- end -}}
{{- if $agent.enabled -}}
{{- $pairs = append $pairs (list "STATUS_SOCKET_GID" (printf "%v" .Values.nodeAgent.user)) -}}
{{- end -}}
{{- if eq (toString .Values.compatWithCPUManager) "true" -}}
{{- $pairs = append $pairs (list "PASS_DEVICE_SPECS" "true") -}}
{{- end -}}
{{- $failOnInitError := .Values.failOnInitError -}}
{{- if and (kindIs "invalid" $failOnInitError) (not $config.unknown) (not (hasKey $flags "failOnInitError")) -}}
{{- $failOnInitError = false -}}
{{- end -}}
{{- range list (list "MIG_STRATEGY" .Values.migStrategy)
    (list "FAIL_ON_INIT_ERROR" $failOnInitError)
    (list "DEVICE_LIST_STRATEGY" (include "gpu-device-plugin.deviceListStrategy" .))
    (list "DEVICE_ID_STRATEGY" .Values.deviceIDStrategy)
    (list "NVIDIA_DRIVER_ROOT" $root)
    (list "NVIDIA_DEV_ROOT" .Values.nvidiaDevRoot)
    (list "GDRCOPY_ENABLED" .Values.gdrcopyEnabled)
    (list "GDS_ENABLED" .Values.gdsEnabled)
    (list "MOFED_ENABLED" .Values.mofedEnabled)
    (list "DEVICE_DISCOVERY_STRATEGY" .Values.deviceDiscoveryStrategy)
    (list "NVIDIA_CDI_HOOK_PATH" (.Values.cdi).nvidiaHookPath)
    (list "CDI_FEATURE_FLAGS" (.Values.cdi).featureFlags) -}}
{{- $value := toString (last .) -}}
{{- if not (or (kindIs "invalid" (last .)) (eq $value "")) -}}
{{- $pairs = append $pairs (list (first .) $value) -}}
{{- end -}}
{{- end -}}
{{- if and $privileged (ne $root "") (ne $root "/") -}}
{{- $pairs = append $pairs (list "DRIVER_ROOT_CTR_PATH" (printf "/driver-root%s" $root)) -}}
{{- end -}}
{{- if $needs.mps -}}
{{- $pairs = append $pairs (list "MPS_ROOT" .Values.mps.root) -}}
{{- end -}}
{{- if and $needs.cdi (ne .Values.cdi.specDir "/var/run/cdi") -}}
{{- $pairs = append $pairs (list "CDI_SPEC_DIR" .Values.cdi.specDir) -}}
{{- end -}}
{{- if $needs.cdi -}}
{{- if ne .Values.cdi.hookMode "auto" -}}
{{- $pairs = append $pairs (list "CDI_HOOK_MODE" .Values.cdi.hookMode) -}}
{{- end -}}
{{- if $needs.ownHook -}}
{{- $pairs = append $pairs (list "CGROUP_ROOT" "/cgroup") -}}
{{- if ne .Values.cdi.hookDir "/var/lib/gpu-cdi-hook" -}}
{{- $pairs = append $pairs (list "CDI_HOOK_DIR" .Values.cdi.hookDir) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (.Values.kubelet).podResourcesDir -}}
{{- $pairs = append $pairs (list "POD_RESOURCES_SOCKET" "") -}}
{{- end -}}
{{- if (.Values.quarantine).hostPath -}}
{{- $pairs = append $pairs (list "QUARANTINE_DIR" "/quarantine") -}}
{{- end -}}
{{- $http := ternary (printf ":%v" .Values.http.port) "" (eq (toString .Values.http.enabled) "true") -}}
{{- $pairs = append $pairs (list "HTTP_ADDRESS" $http) -}}
{{- $pairs = append $pairs (list "NVIDIA_VISIBLE_DEVICES" "all") -}}
{{- $pairs = append $pairs (list "NVIDIA_DRIVER_CAPABILITIES" (.Values.nvidiaDriverCapabilities | default "compute,utility")) -}}
{{- if $needs.mig -}}
{{- $pairs = append $pairs (list "NVIDIA_MIG_MONITOR_DEVICES" "all") -}}
{{- end -}}
{{- $ofMain := ((((.Values.devicePlugin).containers).main).env) | default list -}}
{{- $extra := concat $ofMain (.Values.extraEnv | default list) -}}
{{- $names := list -}}
{{- range $extra -}}
{{- if has .name $names -}}
{{- fail (printf "\nextraEnv: the variable %s is there twice." .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $env := list -}}
{{- range $pairs -}}
{{- if not (has (first .) $names) -}}
{{- $env = append $env (dict "name" (first .) "value" (last .)) -}}
{{- end -}}
{{- end -}}
{{- if not (has "NODE_NAME" $names) -}}
{{- $env = append $env (dict "name" "NODE_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "spec.nodeName"))) -}}
{{- end -}}
{{- concat $env $extra | toYaml -}}
{{- end -}}

{{- define "gpu-device-plugin.securityContext" -}}
{{- if .Values.securityContext -}}
{{- toYaml .Values.securityContext -}}
{{- else if eq (include "gpu-device-plugin.privileged" .) "true" -}}
# For the GPUs' device files, without which NVML does not initialise.
privileged: true
# It writes only its sockets in the kubelet's directory and its state in its own directory.
readOnlyRootFilesystem: true
{{- else -}}
{{- $needs := include "gpu-device-plugin.needs" . | fromYaml -}}
capabilities:
  drop: ["ALL"]
{{- if or $needs.mig $needs.volumeMounts }}
  # The NVIDIA runtime asks for it: with MIG for NVIDIA_MIG_MONITOR_DEVICES, with volume-mounts where it is configured
  # to believe NVIDIA_VISIBLE_DEVICES of privileged containers alone.
  add: ["SYS_ADMIN"]
{{- else }}
allowPrivilegeEscalation: false
{{- end }}
readOnlyRootFilesystem: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}
{{- end -}}

{{/* Refuses what the schema cannot: values that do not go together. */}}
{{- define "gpu-device-plugin.validate" -}}
{{- if and (eq (include "gpu-device-plugin.namespace" .) "default") (not .Values.allowDefaultNamespace) -}}
{{- fail "\nThe namespace is `default`. Use --namespace (with --create-namespace), or set allowDefaultNamespace=true." -}}
{{- end -}}
{{- if and (.Values.config).name (.Values.config).map -}}
{{- fail "\nOnly one of config.name (a ConfigMap that is there already) and config.map (one to be made) can be set." -}}
{{- end -}}
{{- if hasSuffix "k8s-device-plugin" .Values.image.repository -}}
{{- fail (printf "\nimage.repository is %s, which is NVIDIA's plugin. Leave it out, or name your image of gpu-device-plugin." .Values.image.repository) -}}
{{- end -}}
{{- $agent := include "gpu-device-plugin.agent" . | fromYaml -}}
{{- if and $agent.config (empty (.Values.config).name) (empty (.Values.config).map) -}}
{{- fail "\nnodeAgent.configByLabel is true, and there is nothing to choose from: set config.map or config.name." -}}
{{- end -}}
{{- if and $agent.enabled .Values.devicePlugin.enabled (not .Values.serviceAccount.create) (empty .Values.serviceAccount.name) -}}
{{- fail "\nThe node agent's rights are given to a ServiceAccount of its own: set serviceAccount.create=true, or serviceAccount.name to one that is there." -}}
{{- end -}}
{{- if and (not .Values.http.enabled) (or .Values.podMonitor.enabled .Values.networkPolicy.enabled) -}}
{{- fail "\nhttp.enabled is false, and podMonitor or networkPolicy is about its port: set http.enabled=true, or leave them off." -}}
{{- end -}}
{{- end -}}

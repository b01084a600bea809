{{/* The node agent's arguments, as a YAML list. */}}
{{- define "gpu-device-plugin.agentArgs" -}}
{{- $agent := include "gpu-device-plugin.agent" . | fromYaml -}}
{{- $args := list -}}
{{- if ne $agent.labels "off" -}}
{{- $args = concat $args (list (printf "--labels=%s" $agent.labels) (printf "--labels-conflict=%s" (.Values.nodeAgent.labelsConflict | default "yield"))) -}}
{{- if eq (toString (coalesce .Values.gfd.noTimestamp .Values.noTimestamp)) "true" -}}
{{- $args = append $args "--no-timestamp" -}}
{{- end -}}
{{- with .Values.nodeAgent.extraLabels -}}
{{- $args = append $args (printf "--extra-labels=%s" (join "," .)) -}}
{{- end -}}
{{- end -}}
{{- $interval := toString (coalesce .Values.gfd.sleepInterval .Values.sleepInterval | default "") -}}
{{- if and $interval (ne $agent.labels "off") -}}
{{- /* NVIDIA's chart takes a number of seconds too. */ -}}
{{- $args = append $args (printf "--sleep-interval=%s" (ternary (printf "%ss" $interval) $interval (regexMatch "^[0-9]+$" $interval))) -}}
{{- end -}}
{{- if $agent.condition -}}
{{- $args = append $args (printf "--node-condition=%s" $agent.condition) -}}
{{- end -}}
{{- if $agent.taint -}}
{{- $args = append $args (printf "--node-taint=%s" $agent.taint) -}}
{{- end -}}
{{- if $agent.summary -}}
{{- $args = append $args "--node-summary" -}}
{{- end -}}
{{- if $agent.events -}}
{{- $args = append $args "--events" -}}
{{- end -}}
{{- if $agent.podEvents -}}
{{- $args = append $args "--pod-events" -}}
{{- end -}}
{{- if $agent.config -}}
{{- $args = concat $args (list "--config-name-file=/run/gpu-node-agent/config-name" (printf "--node-label=%s" .Values.nodeAgent.configLabel) "--config-file-srcdir=/available-configs") -}}
{{- with .Values.config.default -}}
{{- $args = append $args (printf "--default-config=%s" .) -}}
{{- end -}}
{{- with .Values.config.fallbackStrategies -}}
{{- $args = append $args (printf "--fallback-strategies=%s" (join "," .)) -}}
{{- end -}}
{{- end -}}
{{- if $agent.release -}}
{{- $args = append $args "--release-file=/run/gpu-node-agent/release" -}}
{{- end -}}
{{- concat $args (.Values.nodeAgent.extraArgs | default list) | toYaml -}}
{{- end -}}

{{/* The node agent's container: without privileges, and the only one with a token. */}}
{{- define "gpu-device-plugin.agentContainer" -}}
{{- $agent := include "gpu-device-plugin.agent" . | fromYaml -}}
- name: node-agent
  image: {{ include "gpu-device-plugin.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy | default "IfNotPresent" }}
  command: ["gpu-node-agent"]
  args:
    {{- include "gpu-device-plugin.agentArgs" . | nindent 4 }}
  env:
    - name: NODE_NAME
      valueFrom:
        fieldRef:
          fieldPath: spec.nodeName
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    - name: NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
    # The image asks the NVIDIA runtime for all GPUs.
    - name: NVIDIA_VISIBLE_DEVICES
      value: void
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ .Values.nodeAgent.user }}
    runAsGroup: {{ .Values.nodeAgent.user }}
    allowPrivilegeEscalation: false
    capabilities:
      drop: ["ALL"]
    readOnlyRootFilesystem: true
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.nodeAgent.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: state
      mountPath: /var/lib/gpu-device-plugin
      # A socket in it can be connected to all the same.
      readOnly: true
    - name: api-token
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
    {{- if or $agent.config $agent.release }}
    - name: for-plugin
      mountPath: /run/gpu-node-agent
    {{- end }}
    {{- if $agent.config }}
    # Its names are listed.
    - name: available-configs
      mountPath: /available-configs
      readOnly: true
    {{- end }}
{{- end -}}

{{/*
What is on in the cluster and off by the values, or of another type or key: functions whose writing an upgrade removes,
and the key of the taint. Nothing where no cluster is asked, as by `helm template`.
*/}}
{{- define "gpu-device-plugin.agentTurnedOff" -}}
{{- $agent := include "gpu-device-plugin.agent" . | fromYaml -}}
{{- if not .Values.devicePlugin.enabled -}}
{{- $agent = dict "labels" "off" "condition" "" "summary" false "taint" "" -}}
{{- end -}}
{{- $before := lookup "apps/v1" "DaemonSet" (include "gpu-device-plugin.namespace" .) (include "gpu-device-plugin.fullname" .) | default dict -}}
{{- $functions := list -}}
{{- $taint := "" -}}
{{- range dig "spec" "template" "spec" "containers" list $before -}}
{{- if eq .name "node-agent" -}}
{{- range .args -}}
{{- if and (eq . "--labels=node") (ne $agent.labels "node") -}}
{{- $functions = append $functions "labels" -}}
{{- else if and (eq . "--labels=nodefeature") (ne $agent.labels "nodefeature") -}}
{{- $functions = append $functions "nodefeature" -}}
{{- else if and (hasPrefix "--node-condition=" .) (ne . (printf "--node-condition=%s" $agent.condition)) -}}
{{- $functions = append $functions "condition" -}}
{{- else if and (eq . "--node-summary") (not $agent.summary) -}}
{{- $functions = append $functions "summary" -}}
{{- else if and (hasPrefix "--node-taint=" .) (ne . (printf "--node-taint=%s" $agent.taint)) -}}
{{- $functions = append $functions "taint" -}}
{{- $taint = trimPrefix "--node-taint=" . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
functions: {{ toJson $functions }}
taint: {{ $taint | quote }}
{{- end -}}

{{/* What the agent may do in the whole cluster, as rules: no more than its functions need. */}}
{{- define "gpu-device-plugin.agentRules" -}}
{{- $agent := include "gpu-device-plugin.agent" . | fromYaml -}}
{{- $verbs := list -}}
{{- if or (eq $agent.labels "node") $agent.condition $agent.taint $agent.summary -}}
{{- $verbs = append $verbs "get" -}}
{{- end -}}
{{- if or (eq $agent.labels "node") $agent.taint $agent.summary -}}
{{- $verbs = append $verbs "patch" -}}
{{- end -}}
{{- if or $agent.config $agent.release -}}
{{- $verbs = append $verbs "watch" -}}
{{- end -}}
{{- $rules := list -}}
{{- if $verbs -}}
{{- $rules = append $rules (dict "apiGroups" (list "") "resources" (list "nodes") "verbs" $verbs) -}}
{{- end -}}
{{- if $agent.condition -}}
{{- $rules = append $rules (dict "apiGroups" (list "") "resources" (list "nodes/status") "verbs" (list "patch")) -}}
{{- end -}}
{{- if $agent.podEvents -}}
{{- $rules = append $rules (dict "apiGroups" (list "") "resources" (list "pods") "verbs" (list "get")) -}}
{{- $rules = append $rules (dict "apiGroups" (list "events.k8s.io") "resources" (list "events") "verbs" (list "create" "patch")) -}}
{{- end -}}
{{- $rules | toYaml -}}
{{- end -}}

{{/* What every pod of the fleet has, and every container. */}}

{{/* The scheduling and the identity of a pod; `dict "root" $ "at" (.Values.api or a pool) "spread" DEFAULT`. */}}
{{- define "embedfleet.pod" -}}
serviceAccountName: {{ include "embedfleet.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- include "embedfleet.pullSecrets" .root }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .at.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .at.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .at.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .at.topologySpreadConstraints | default .spread }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "embedfleet.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "embedfleet.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* `dict "root" $ "kind" KIND`. */}}
{{- define "embedfleet.mounts" -}}
{{- $cas := include "embedfleet.cas" . | fromJsonArray -}}
- {name: tmp, mountPath: /tmp}
{{- with .root }}
{{- if eq .Values.blobs.mode "pvc" }}
- {name: blobs, mountPath: /var/lib/embedfleet/blobs}
{{- end }}
{{- if .Values.blobs.gcs.keyFile }}
- {name: blobs-key, mountPath: /etc/embedfleet/blobs, readOnly: true}
{{- end }}
{{- if ne .Values.model.source "image" }}
- {name: models, mountPath: {{ .Values.model.folder }}, readOnly: true}
{{- end }}
{{- end }}
{{- range $name := $cas }}
- {name: {{ $name }}-ca, mountPath: /etc/embedfleet/tls/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}

{{/* `dict "root" $ "at" (.Values.api or a pool) "kind" KIND`. */}}
{{- define "embedfleet.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .at.tmpSize }}}
{{- with .root.Values }}
{{- if eq .blobs.mode "pvc" }}
- name: blobs
  persistentVolumeClaim: {claimName: {{ .blobs.pvc.claim | default (printf "%s-blobs" (include "embedfleet.name" $.root)) }}}
{{- end }}
{{- if .blobs.gcs.keyFile }}
- name: blobs-key
  secret: {secretName: {{ .blobs.existingSecret }}, defaultMode: 0440, items: [{key: {{ .blobs.gcs.keyFile }}, path: key.json}]}
{{- end }}
{{- if eq .model.source "pvc" }}
- name: models
  persistentVolumeClaim: {claimName: {{ .model.claim }}, readOnly: true}
{{- else if eq .model.source "hub" }}
- name: models
  emptyDir: {sizeLimit: 10Gi}
{{- end }}
{{- end }}
{{- range $name := include "embedfleet.cas" . | fromJsonArray }}
{{- $tls := (index $.root.Values $name).tls }}
- name: {{ $name }}-ca
  secret: {secretName: {{ $tls.existingSecret }}, defaultMode: 0440, items: [{key: {{ $tls.caKey }}, path: ca.crt}]}
{{- end }}
{{- end }}

{{/* Fetches the model before the pod starts; nothing else ever asks the hub. `dict "root" $ "image" IMAGE "backend" ITS`. */}}
{{- define "embedfleet.fetch" -}}
{{- if eq .root.Values.model.source "hub" }}
initContainers:
  - name: model
    image: {{ .image }}
    imagePullPolicy: {{ .root.Values.images.pullPolicy }}
    args:
      - python
      - -P
      - -c
      - |
        from embedfleet.encoders.fetch import fetch
        from embedfleet.runtime.settings import ModelSettings
        fetch(ModelSettings(), print, "{{ .backend }}")
    env:
      {{- include "embedfleet.env.model" .root | nindent 6 }}
      - name: HF_ENDPOINT
        value: {{ .root.Values.model.hub | quote }}
      {{- include "embedfleet.env.home" .root | nindent 6 }}
    {{- include "embedfleet.container.security" .root | nindent 4 }}
    resources: {requests: {cpu: 100m, memory: 512Mi}, limits: {memory: 2Gi}}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: models, mountPath: {{ .root.Values.model.folder }}}
{{- end }}
{{- end }}

{{/* Whose files of the model a pool needs: documents workers read the tokenizer, which both have. `dict "root" $ "at" POOL`. */}}
{{- define "embedfleet.backend" -}}
{{- $own := include "embedfleet.variable" (dict "root" .root "at" .at "name" "FLEET_BACKEND") -}}
{{- ternary $own "onnx" (and (eq .at.kind "embeddings") (ne $own "")) -}}
{{- end }}

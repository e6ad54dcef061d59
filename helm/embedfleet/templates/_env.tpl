{{/* What the app is told. Names of variables: docs/environment.md. */}}

{{/* Host, port and key of Redis and Qdrant, apart: KEDA takes no URL. */}}
{{- define "embedfleet.redis.host" -}}
{{- if eq .Values.redis.mode "external" }}{{ .Values.redis.host }}{{ else }}{{ include "embedfleet.name" . }}-redis.{{ .Release.Namespace }}.svc{{ end -}}
{{- end }}

{{- define "embedfleet.qdrant.host" -}}
{{- if eq .Values.qdrant.mode "external" }}{{ .Values.qdrant.host }}{{ else }}{{ include "embedfleet.name" . }}-qdrant.{{ .Release.Namespace }}.svc{{ end -}}
{{- end }}

{{- define "embedfleet.redis.secret" -}}
{{- .Values.redis.auth.existingSecret | default (printf "%s-redis" (include "embedfleet.name" .)) -}}
{{- end }}

{{- define "embedfleet.qdrant.secret" -}}
{{- .Values.qdrant.auth.existingSecret | default (printf "%s-qdrant" (include "embedfleet.name" .)) -}}
{{- end }}

{{/* A variable from a Secret; `dict "name" VARIABLE "secret" NAME "key" KEY`. */}}
{{- define "embedfleet.env.secret" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}

{{/* kombu, the result backend and redis-py all read these parameters of the URL. */}}
{{- define "embedfleet.redis.url" -}}
{{- $redis := .Values.redis -}}
{{- $credentials := "" -}}
{{- if $redis.auth.enabled }}{{ $credentials = printf "%s:$(REDIS_PASSWORD)@" $redis.auth.username }}{{ end -}}
{{- $tls := "" -}}
{{- if $redis.tls.enabled -}}
{{- $tls = "?ssl_cert_reqs=required" -}}
{{- if $redis.tls.existingSecret }}{{ $tls = printf "%s&ssl_ca_certs=/etc/embedfleet/tls/redis/ca.crt" $tls }}{{ end -}}
{{- end -}}
{{- printf "%s://%s%s:%d/%d%s" (ternary "rediss" "redis" $redis.tls.enabled) $credentials (include "embedfleet.redis.host" .) (int $redis.port) (int $redis.database) $tls -}}
{{- end }}

{{- define "embedfleet.env.redis" -}}
{{- $redis := .Values.redis -}}
{{- if and $redis.auth.enabled $redis.auth.urlKey }}
{{ include "embedfleet.env.secret" (dict "name" "CELERY_BROKER_URL" "secret" (include "embedfleet.redis.secret" .) "key" $redis.auth.urlKey) }}
{{- else }}
{{- if $redis.auth.enabled }}
{{ include "embedfleet.env.secret" (dict "name" "REDIS_PASSWORD" "secret" (include "embedfleet.redis.secret" .) "key" $redis.auth.passwordKey) }}
{{- end }}
- name: CELERY_BROKER_URL
  value: {{ include "embedfleet.redis.url" . | quote }}
{{- end }}
{{- end }}

{{- define "embedfleet.env.qdrant" -}}
{{- $qdrant := .Values.qdrant -}}
- name: QDRANT_URL
  value: {{ printf "%s://%s:%d" (ternary "https" "http" $qdrant.tls.enabled) (include "embedfleet.qdrant.host" .) (int $qdrant.port) | quote }}
{{- if $qdrant.auth.enabled }}
{{ include "embedfleet.env.secret" (dict "name" "QDRANT_API_KEY" "secret" (include "embedfleet.qdrant.secret" .) "key" $qdrant.auth.key) }}
{{- end }}
{{- end }}

{{/* The stores whose CA a pod of this kind has to know, as JSON; `dict "root" $ "kind" KIND`. Document workers never speak to Qdrant, but the same file may be what checks the object store. */}}
{{- define "embedfleet.cas" -}}
{{- $cas := list -}}
{{- range $name := list "redis" "qdrant" -}}
{{- $tls := (index $.root.Values $name).tls -}}
{{- if and $tls.enabled $tls.existingSecret (or (eq $name "redis") (ne $.kind "documents") $tls.coversBlobs) }}{{ $cas = append $cas $name }}{{ end -}}
{{- end -}}
{{- toJson $cas -}}
{{- end }}

{{/* The one place that knows how the app names its blobs. */}}
{{- define "embedfleet.env.blobs" -}}
{{- $blobs := .Values.blobs -}}
{{- $url := "/var/lib/embedfleet/blobs" -}}
{{- if eq $blobs.mode "s3" }}{{ $url = printf "s3://%s/%s" $blobs.s3.bucket $blobs.s3.prefix }}
{{- else if eq $blobs.mode "gcs" }}{{ $url = printf "gs://%s/%s" $blobs.gcs.bucket $blobs.gcs.prefix }}
{{- else if eq $blobs.mode "azure" }}{{ $url = printf "az://%s/%s" $blobs.azure.container $blobs.azure.prefix }}
{{- end }}
- name: FLEET_BLOB_URL
  value: {{ trimSuffix "/" $url | quote }}
{{- if eq $blobs.mode "azure" }}
- name: AZURE_STORAGE_ACCOUNT_NAME
  value: {{ $blobs.azure.account | quote }}
{{- end }}
{{- if and (eq $blobs.mode "gcs") $blobs.gcs.keyFile }}
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /etc/embedfleet/blobs/key.json}
{{- end }}
{{- with $blobs.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "embedfleet.env.model" -}}
- name: FLEET_MODEL_ID
  value: {{ .Values.model.id | quote }}
{{- with .Values.model.revision }}
- name: FLEET_MODEL_REVISION
  value: {{ . | quote }}
{{- end }}
- name: FLEET_MODEL_CACHE
  value: {{ .Values.model.folder | quote }}
{{- end }}

{{/* Which document queues there are besides the app's own, and from which size files go there. */}}
{{- define "embedfleet.documentQueues" -}}
{{- $rules := list -}}
{{- range $name, $pool := include "embedfleet.pools" . | fromJson -}}
{{- if gt (int64 $pool.minBytes) 0 }}{{ $rules = append $rules (printf "%s=%d" $pool.queue (int64 $pool.minBytes)) }}{{ end -}}
{{- end -}}
{{- $rules | uniq | sortAlpha | join "," -}}
{{- end }}

{{/* What api and workers must agree on, and Qdrant for those that speak to it; `dict "root" $ "kind" (api, documents or embeddings)`. */}}
{{- define "embedfleet.env" -}}
{{- $kind := .kind -}}
{{- $cas := include "embedfleet.cas" . | fromJsonArray -}}
{{- with .root -}}
{{- include "embedfleet.env.redis" . | trim }}
{{- if ne $kind "documents" }}
{{ include "embedfleet.env.qdrant" . | trim }}
{{- end }}
{{- if has "qdrant" $cas }}
- {name: SSL_CERT_FILE, value: /etc/embedfleet/tls/qdrant/ca.crt}
{{- end }}
{{ include "embedfleet.env.blobs" . | trim }}
{{ include "embedfleet.env.model" . }}
- {name: HF_HUB_OFFLINE, value: "1"}
{{- with include "embedfleet.documentQueues" . }}
- name: FLEET_DOCUMENT_QUEUES
  value: {{ . | quote }}
{{- end }}
{{ include "embedfleet.env.home" . }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "embedfleet.env.api" -}}
{{ include "embedfleet.env" (dict "root" . "kind" "api") }}
- {name: FLEET_DEVICE, value: cpu}
{{- with include "embedfleet.env.threads" (dict "root" . "at" .Values.api) }}
{{ . }}
{{- end }}
- {name: FLEET_HOST, value: 0.0.0.0}
- {name: FLEET_PORT, value: {{ (include "embedfleet.contract" . | fromJson).ports.api | quote }}}
- {name: FLEET_AUTH, value: {{ .Values.auth.mode | quote }}}
{{- if eq .Values.auth.mode "keys" }}
- {name: FLEET_API_KEYS_FILE, value: /etc/embedfleet/keys/keys.json}
{{- end }}
{{- with .Values.api.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* `dict "root" $ "pool" POOL`. */}}
{{- define "embedfleet.env.worker" -}}
{{ include "embedfleet.env" (dict "root" .root "kind" .pool.kind) }}
- {name: FLEET_DEVICE, value: {{ ternary "cuda" "cpu" (gt (int .pool.gpu.count) 0) }}}
{{- with include "embedfleet.env.threads" (dict "root" .root "at" .pool) }}
{{ . }}
{{- end }}
- {name: FLEET_PROBE_PORT, value: {{ (include "embedfleet.contract" .root | fromJson).ports.probes | quote }}}
{{- with .pool.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A list of variables as YAML, with each name once, where its last stood: a server-side apply, which is Helm 4's, refuses a name that is there twice. */}}
{{- define "embedfleet.env.unique" -}}
{{- $items := fromYamlArray . -}}
{{- $last := dict -}}
{{- range $index, $item := $items }}{{ $_ := set $last $item.name $index }}{{ end -}}
{{- $kept := list -}}
{{- range $index, $item := $items }}{{ if eq $index (index $last $item.name) }}{{ $kept = append $kept $item }}{{ end }}{{ end -}}
{{- toYaml $kept -}}
{{- end }}

{{/* The root file system is read-only: whatever a library writes goes into /tmp. */}}
{{- define "embedfleet.env.home" -}}
- {name: HOME, value: /tmp/home}
- {name: XDG_CACHE_HOME, value: /tmp/cache}
- {name: HF_HOME, value: /tmp/huggingface}
- {name: PYTHONUNBUFFERED, value: "1"}
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
{{- end }}

{{- define "embedfleet.envFrom" -}}
{{- if and .Values.blobs.existingSecret (not .Values.blobs.gcs.keyFile) }}
envFrom:
  - secretRef: {name: {{ .Values.blobs.existingSecret }}}
{{- end }}
{{- end }}

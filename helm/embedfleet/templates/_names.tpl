{{/* Names, labels and images. */}}
{{- define "embedfleet.name" -}}
{{- if .Values.nameOverride -}}{{ .Values.nameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 30 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 30 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* What every object carries; `dict "root" $ "part" NAME`. */}}
{{- define "embedfleet.labels" -}}
{{ include "embedfleet.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: embedfleet
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "embedfleet.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "embedfleet.meta" -}}
name: {{ include "embedfleet.name" .root }}{{ if .suffix }}-{{ .suffix }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "embedfleet.labels" . | nindent 2 }}
{{- end }}

{{/* Where an image is; `dict "root" $ "image" {repository, tag, digest}`. */}}
{{- define "embedfleet.repository" -}}
{{- $registry := .root.Values.images.registry -}}
{{- if $registry -}}{{ printf "%s/%s" (trimSuffix "/" $registry) (trimPrefix "docker.io/" .image.repository) }}
{{- else -}}{{ .image.repository }}
{{- end -}}
{{- end }}

{{/* An image; the same, and "tag" DEFAULT. */}}
{{- define "embedfleet.image" -}}
{{- $path := include "embedfleet.repository" . -}}
{{- if .image.digest -}}{{ printf "%s@%s" $path .image.digest }}
{{- else -}}{{ printf "%s:%s" $path (default .tag .image.tag) }}
{{- end -}}
{{- end }}

{{- define "embedfleet.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "embedfleet.name" .) -}}
{{- end }}

{{/* Queues, keys and ports as the app names them: files/contract.json is written from the app. */}}
{{- define "embedfleet.contract" -}}
{{- .Files.Get "files/contract.json" -}}
{{- end }}

{{/* The pools that are on, each complete, as JSON: {name: pool}. */}}
{{- define "embedfleet.pools" -}}
{{- $pools := dict -}}
{{- range $name, $own := .Values.pools -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy $own) -}}
{{- if $pool.enabled -}}
{{- $_ := set $pool "queue" (default $pool.kind $pool.queue) -}}
{{- $_ := set $pools $name $pool -}}
{{- end -}}
{{- end -}}
{{- toJson $pools -}}
{{- end }}

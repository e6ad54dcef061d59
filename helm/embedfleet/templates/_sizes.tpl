{{/* That what a pool asks for fits what runs in it. */}}

{{/* A quantity of Kubernetes in bytes; empty where it is none, or in a unit that nobody uses for memory. */}}
{{- define "embedfleet.bytes" -}}
{{- $units := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- if kindIs "string" . -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $unit := trimPrefix $number . -}}
{{- if and $number (or (not $unit) (hasKey $units $unit)) -}}
{{- mulf $number (default 1 (index $units $unit)) | ceil | int64 -}}
{{- end -}}
{{- else if . -}}
{{- int64 . -}}
{{- end -}}
{{- end }}

{{/* A variable of the app as a pool has it: its own, else the settings'; `dict "root" $ "at" POOL "name" VARIABLE`. */}}
{{- define "embedfleet.variable" -}}
{{- $value := index .root.Values.settings .name | default "" -}}
{{- range .at.env -}}
{{- if eq .name $.name }}{{ $value = .value | default "" }}{{ end -}}
{{- end -}}
{{- $value -}}
{{- end }}

{{/* `dict "root" $ "name" NAME "pool" POOL`. */}}
{{- define "embedfleet.checks.sizes" -}}
{{- $name := .name -}}
{{- $pool := .pool -}}
{{- $limit := include "embedfleet.bytes" (dig "limits" "memory" "" $pool.resources) -}}
{{- if and (eq $pool.kind "documents") $limit -}}
{{- $own := include "embedfleet.variable" (dict "root" .root "at" $pool "name" "FLEET_SANDBOX_MEMORY") -}}
{{- $each := int64 ($own | default (include "embedfleet.contract" .root | fromJson).sandboxMemory) -}}
{{- $least := add (mul $each (int64 $pool.concurrency)) 1073741824 -}}
{{- if lt (int64 $limit) $least -}}
{{- fail (printf "pools.%s.resources.limits.memory is %s, but %d files at a time may take %d bytes each (FLEET_SANDBOX_MEMORY), and the worker 1Gi: the kernel would end them all for one. Set it to %dMi or more, or lower pools.%s.concurrency or FLEET_SANDBOX_MEMORY" $name (toString $pool.resources.limits.memory) (int64 $pool.concurrency) $each (div (add $least 1048575) 1048576) $name) -}}
{{- end -}}
{{- end -}}
{{- $scale := $pool.autoscaling -}}
{{- if and (eq .root.Values.autoscaling.engine "keda") (lt (int $scale.queuedPerReplica) (int $pool.concurrency)) -}}
{{- fail (printf "pools.%s.autoscaling.queuedPerReplica is %d, but one pod takes %d tasks at once: the others would be started for nothing. Set it to pools.%s.concurrency or more" $name (int $scale.queuedPerReplica) (int $pool.concurrency) $name) -}}
{{- end -}}
{{- end }}

{{/* The encoder's threads on a CPU: as many as are requested. It would see all cores of the node. `dict "root" $ "at" (.Values.api or a pool)`. */}}
{{- define "embedfleet.env.threads" -}}
{{- $encodes := and (ne (default "" .at.kind) "documents") (eq (int (dig "gpu" "count" 0 .at)) 0) -}}
{{- $own := include "embedfleet.variable" (dict "root" .root "at" .at "name" "FLEET_ENCODER_THREADS") -}}
{{- if and $encodes (dig "requests" "cpu" "" .at.resources) (not $own) -}}
- {name: FLEET_ENCODER_THREADS, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}
{{- end -}}
{{- end }}

{{/* Resources with room on the node's disk for what the pod may write there, unless that is said; `dict "root" $ "at" POOL`. */}}
{{- define "embedfleet.resources" -}}
{{- $resources := deepCopy .at.resources -}}
{{- $bytes := int64 (include "embedfleet.bytes" .at.tmpSize) -}}
{{- if eq .root.Values.model.source "hub" }}{{ $bytes = add $bytes 10737418240 }}{{ end -}}
{{- $requests := dict "ephemeral-storage" (printf "%dMi" (div (add $bytes 1048575) 1048576)) -}}
{{- $_ := set $resources "requests" (merge (default dict $resources.requests) $requests) -}}
{{- toYaml $resources -}}
{{- end }}

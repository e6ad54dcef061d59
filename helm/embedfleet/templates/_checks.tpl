{{/* What the schema can't say. Every refusal is a sentence that says what to do. */}}
{{- define "embedfleet.checks" -}}
{{- include "embedfleet.checks.images" . -}}
{{- include "embedfleet.checks.stores" . -}}
{{- include "embedfleet.checks.blobs" . -}}
{{- include "embedfleet.checks.model" . -}}
{{- range $name, $pool := include "embedfleet.pools" . | fromJson -}}
{{- include "embedfleet.checks.pool" (dict "root" $ "name" $name "pool" $pool) -}}
{{- include "embedfleet.checks.sizes" (dict "root" $ "name" $name "pool" $pool) -}}
{{- end -}}
{{- include "embedfleet.checks.queues" . -}}
{{- if and (eq .Values.auth.mode "off") .Values.auth.existingSecret -}}
{{- fail "auth.mode is off and auth.existingSecret is set: unset one of the two" -}}
{{- end -}}
{{- if and .Values.api.ingress.enabled (not .Values.api.ingress.host) -}}
{{- fail "api.ingress.enabled needs api.ingress.host: an Ingress without one answers for every name" -}}
{{- end -}}
{{- if and .Values.api.hpa.enabled (gt (int .Values.api.hpa.min) (int .Values.api.hpa.max)) -}}
{{- fail "api.hpa.min is above api.hpa.max" -}}
{{- end -}}
{{- end }}

{{/* A name without a registry is Docker Hub's, and there nobody of this project publishes. */}}
{{- define "embedfleet.checks.images" -}}
{{- $ours := dict "images.api" .Values.images.api -}}
{{- range $name, $pool := include "embedfleet.pools" . | fromJson -}}
{{- if $pool.image.repository }}{{ $_ := set $ours (printf "pools.%s.image" $name) $pool.image }}
{{- else }}{{ $_ := set $ours (printf "images.%s" $pool.kind) (index $.Values.images $pool.kind) }}{{ end -}}
{{- end -}}
{{- range $at, $image := $ours -}}
{{- $path := include "embedfleet.repository" (dict "root" $ "image" $image) -}}
{{- if and (ne $.Values.images.pullPolicy "Never") (not (regexMatch "^(localhost|[^/]*[.:][^/]*)/" $path)) -}}
{{- fail (printf "%s.repository is %s, which names no registry: nodes would ask Docker Hub, where this project has nothing and anyone may take the name. Push your images (docs/images.md) and set images.registry or %s.repository; where the nodes have them already, set images.pullPolicy to Never" $at $path $at) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "embedfleet.checks.stores" -}}
{{- range $name := list "redis" "qdrant" -}}
{{- $store := index $.Values $name -}}
{{- if eq $store.mode "external" -}}
{{- if not $store.host -}}
{{- fail (printf "%s.mode is external: set %s.host to its host name, or use %s.mode bundled" $name $name $name) -}}
{{- end -}}
{{- if and $store.auth.enabled (not $store.auth.existingSecret) -}}
{{- fail (printf "%s.mode is external: name the Secret with its credentials in %s.auth.existingSecret, or say %s.auth.enabled: false" $name $name $name) -}}
{{- end -}}
{{- else if $store.host -}}
{{- fail (printf "%s.host is set, but %s.mode is bundled: set %s.mode to external, or unset the host" $name $name $name) -}}
{{- end -}}
{{- if and (eq $store.mode "bundled") $store.auth.username -}}
{{- fail (printf "%s.auth.username is for a store of yours: the bundled one has the default user and KEDA's" $name) -}}
{{- end -}}
{{- if and $store.tls.existingSecret (not $store.tls.enabled) -}}
{{- fail (printf "%s.tls.existingSecret is set, but nothing is encrypted: set %s.tls.enabled to true, or unset the Secret" $name $name) -}}
{{- end -}}
{{- if and (eq $store.mode "bundled") $store.tls.enabled (not $store.tls.existingSecret) -}}
{{- fail (printf "%s.tls.enabled needs %s.tls.existingSecret with tls.crt, tls.key and the CA: cert-manager can write it" $name $name) -}}
{{- end -}}
{{- end -}}
{{- $auth := .Values.redis.auth -}}
{{- if and $auth.kedaUsername (not $auth.kedaPasswordKey) -}}
{{- fail "redis.auth.kedaUsername needs redis.auth.kedaPasswordKey, the key of its password in redis.auth.existingSecret" -}}
{{- end -}}
{{- if and $auth.urlKey (not $auth.existingSecret) -}}
{{- fail "redis.auth.urlKey is a key of redis.auth.existingSecret: name that Secret" -}}
{{- end -}}
{{- $limit := dig "limits" "memory" "" .Values.redis.resources -}}
{{- $bytes := include "embedfleet.bytes" $limit -}}
{{- if and (eq .Values.redis.mode "bundled") $bytes -}}
{{- $unit := dict "kb" 1024.0 "mb" 1048576.0 "gb" 1073741824.0 -}}
{{- $most := mulf (trimSuffix "kb" .Values.redis.maxMemory | trimSuffix "mb" | trimSuffix "gb" | float64) (index $unit (regexFind "[kmg]b$" .Values.redis.maxMemory)) -}}
{{- if gt $most (mulf 0.75 ($bytes | float64)) -}}
{{- fail (printf "redis.maxMemory is %s, more than three quarters of redis.resources.limits.memory, %v: Redis needs the rest while it rewrites its log, and would be killed before it refuses anything. Raise the limit, or lower maxMemory" .Values.redis.maxMemory $limit) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "embedfleet.checks.blobs" -}}
{{- $blobs := .Values.blobs -}}
{{- if not $blobs.mode -}}
{{- fail "blobs.mode is not set: api and workers share uploads and chunk files. Choose s3, gcs or azure with its bucket, or pvc with a ReadWriteMany claim or storage class" -}}
{{- end -}}
{{- if and (has $blobs.mode (list "s3" "gcs")) (not (index $blobs $blobs.mode).bucket) -}}
{{- fail (printf "blobs.mode is %s: set blobs.%s.bucket" $blobs.mode $blobs.mode) -}}
{{- end -}}
{{- if and (eq $blobs.mode "azure") (not (and $blobs.azure.account $blobs.azure.container)) -}}
{{- fail "blobs.mode is azure: set blobs.azure.account and blobs.azure.container" -}}
{{- end -}}
{{- if and $blobs.gcs.keyFile (ne $blobs.mode "gcs") -}}
{{- fail (printf "blobs.gcs.keyFile is set, but blobs.mode is %s, whose credentials it would take the place of: unset it, or set blobs.mode to gcs" $blobs.mode) -}}
{{- end -}}
{{- if and $blobs.gcs.keyFile (not $blobs.existingSecret) -}}
{{- fail "blobs.gcs.keyFile is a key of blobs.existingSecret: name that Secret" -}}
{{- end -}}
{{- $tls := .Values.qdrant.tls -}}
{{- if and (ne $blobs.mode "pvc") $tls.enabled $tls.existingSecret (not $tls.coversBlobs) -}}
{{- fail (printf "blobs.mode is %s, and the CA in %s would take the place of the public ones, by which the object store is checked: put the object store's CAs and Qdrant's into one key of that Secret, name it in qdrant.tls.caKey, and say so with qdrant.tls.coversBlobs: true" $blobs.mode $tls.existingSecret) -}}
{{- end -}}
{{- if and (eq $blobs.mode "pvc") (not $blobs.pvc.claim) (not $blobs.pvc.storageClass) -}}
{{- fail "blobs.mode is pvc: name a ReadWriteMany claim in blobs.pvc.claim, or a storage class that can make one in blobs.pvc.storageClass (most default classes can't)" -}}
{{- end -}}
{{- end }}

{{- define "embedfleet.checks.model" -}}
{{- $model := .Values.model -}}
{{- if and (eq $model.source "pvc") (not $model.claim) -}}
{{- fail "model.source is pvc: name the claim that holds the model in model.claim" -}}
{{- end -}}
{{- if and (ne $model.source "pvc") $model.claim -}}
{{- fail (printf "model.claim is set, but model.source is %s: set model.source to pvc, or unset the claim" $model.source) -}}
{{- end -}}
{{- end }}

{{/* One pool; `dict "root" $ "name" NAME "pool" POOL`. */}}
{{- define "embedfleet.checks.pool" -}}
{{- $contract := include "embedfleet.contract" .root | fromJson -}}
{{- $name := .name -}}
{{- $pool := .pool -}}
{{- $scale := $pool.autoscaling -}}
{{- $engine := .root.Values.autoscaling.engine -}}
{{- if and (not (hasKey $contract.queues $pool.queue)) (not (and (eq $pool.kind "documents") (gt (int64 $pool.minBytes) 0))) -}}
{{- fail (printf "pools.%s.queue is %s, which the app doesn't know: use %s, or make it a documents pool with minBytes, the size from which files go there" $name $pool.queue (keys $contract.queues | sortAlpha | join " or ")) -}}
{{- end -}}
{{- if and (gt (int64 $pool.minBytes) 0) (hasKey $contract.queues $pool.queue) -}}
{{- fail (printf "pools.%s.minBytes needs a queue of its own: set pools.%s.queue to a name besides %s" $name $name (keys $contract.queues | sortAlpha | join " and ")) -}}
{{- end -}}
{{- if and (gt (int64 $pool.minBytes) 0) (not (regexMatch "^documents-[a-z0-9-]" $pool.queue)) -}}
{{- fail (printf "pools.%s.queue is %s: the name of a queue of large files begins with documents-, which keeps it apart from the ledger's own keys; set pools.%s.queue to documents-%s" $name $pool.queue $name $pool.queue) -}}
{{- end -}}
{{- if and (hasKey $contract.queues $pool.queue) (ne $pool.queue $pool.kind) -}}
{{- fail (printf "pools.%s.queue is %s, but its workers are of kind %s: they can't run what waits there" $name $pool.queue $pool.kind) -}}
{{- end -}}
{{- if gt (int $scale.min) (int $scale.max) -}}
{{- fail (printf "pools.%s.autoscaling.min is above max" $name) -}}
{{- end -}}
{{- if and (eq $engine "hpa") (lt (int $scale.min) 1) -}}
{{- fail (printf "pools.%s.autoscaling.min is 0, and autoscaling.engine is hpa, which can't scale to zero: set it to 1 or more, or use keda" $name) -}}
{{- end -}}
{{- if and (eq $engine "hpa") (gt (int $pool.gpu.count) 0) (not $scale.hpa.metrics) -}}
{{- fail (printf "pools.%s has a GPU, and autoscaling.engine is hpa, which by itself looks at the CPU: that says nothing of a GPU's work. Name metrics of your adapter in pools.%s.autoscaling.hpa.metrics, or use keda" $name $name) -}}
{{- end -}}
{{- $fallback := int .root.Values.autoscaling.fallback.replicas -}}
{{- if and (eq $engine "keda") (gt $fallback (int $scale.max)) -}}
{{- fail (printf "autoscaling.fallback.replicas is %d, but pools.%s.autoscaling.max is %d: lower the one or raise the other" $fallback $name (int $scale.max)) -}}
{{- end -}}
{{- if and (gt (int $pool.gpu.count) 0) (eq $pool.kind "documents") -}}
{{- fail (printf "pools.%s asks for a GPU, but documents workers can't use one: set kind to embeddings, or gpu.count to 0" $name) -}}
{{- end -}}
{{- if and (gt (int $pool.gpu.count) 1) -}}
{{- fail (printf "pools.%s.gpu.count is %d: a worker uses one GPU; raise autoscaling.max, or replicas, instead" $name (int $pool.gpu.count)) -}}
{{- end -}}
{{- end }}

{{/* That every queue has a pool, that pools which share one share its work, and that sizes decide. */}}
{{- define "embedfleet.checks.queues" -}}
{{- $contract := include "embedfleet.contract" . | fromJson -}}
{{- $shares := dict -}}
{{- $from := dict -}}
{{- $sizes := dict -}}
{{- range $name, $pool := include "embedfleet.pools" . | fromJson -}}
{{- $queue := $pool.queue -}}
{{- $_ := set $shares $queue (addf (default 0 (index $shares $queue)) $pool.autoscaling.share) -}}
{{- if gt (int64 $pool.minBytes) 0 -}}
{{- $bytes := printf "%d" (int64 $pool.minBytes) -}}
{{- $other := default $queue (index $from $bytes) -}}
{{- if ne $other $queue -}}
{{- fail (printf "pools.%s.minBytes is %s, and so is that of the queue %s: which of them takes such a file? Give each queue its own size" $name $bytes $other) -}}
{{- end -}}
{{- $_ := set $from $bytes $queue -}}
{{- $size := default $bytes (index $sizes $queue) -}}
{{- if ne $size $bytes -}}
{{- fail (printf "pools.%s.minBytes is %s, but another pool of its queue has %s: all pools of the queue %s must have the same minBytes" $name $bytes $size $queue) -}}
{{- end -}}
{{- $_ := set $sizes $queue $bytes -}}
{{- end -}}
{{- end -}}
{{- range $queue := keys $contract.queues | sortAlpha -}}
{{- if not (hasKey $shares $queue) -}}
{{- fail (printf "no pool takes the queue %s: what waits there would wait for ever; add a pool of that kind, or enable it" $queue) -}}
{{- end -}}
{{- end -}}
{{- range $queue, $sum := $shares -}}
{{- if or (lt (round $sum 3) 0.99) (gt (round $sum 3) 1.01) -}}
{{- fail (printf "the pools of the queue %s have shares that add up to %v: autoscaling.share of all pools of one queue must add up to 1, or they start too many pods or too few" $queue (round $sum 3)) -}}
{{- end -}}
{{- end -}}
{{- end }}

# All images at once: `docker buildx bake`, with `--push` into a REGISTRY. docs/images.md has the variables.

variable "VERSION" { default = "0.1.0" }
variable "REVISION" { default = "unknown" }
# With the slash. This machine's, which is nowhere asked for: a name without one would be Docker Hub's.
variable "REGISTRY" { default = "localhost/" }

# Debian's apt and Python 3.11.
variable "BASE_IMAGE" { default = "python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d" }

# Empty: no model in the images, one is mounted at /models.
variable "MODEL_ID" { default = "sentence-transformers/all-MiniLM-L6-v2" }
variable "MODEL_REVISION" { default = "" }
variable "HF_ENDPOINT" { default = "" }

# gpu-torch.lock: with torch.
variable "GPU_LOCK" { default = "gpu.lock" }

# File with pip's settings, for an index of your own; it is in no layer.
variable "PIP_CONF" { default = "" }

group "default" { targets = ["api", "documents", "embeddings-cpu", "embeddings-gpu"] }
group "cpu" { targets = ["api", "documents", "embeddings-cpu"] }

target "image" {
  context   = "."
  platforms = ["linux/amd64"] # the locks are for it
  secret  = notequal("", PIP_CONF) ? ["id=pip.conf,src=${PIP_CONF}"] : []
  args = {
    BASE_IMAGE     = BASE_IMAGE
    VERSION        = VERSION
    REVISION       = REVISION
    MODEL_ID       = MODEL_ID
    MODEL_REVISION = MODEL_REVISION
    HF_ENDPOINT    = HF_ENDPOINT
  }
}

# Fetched from the hub, once for all.
target "models" {
  inherits   = ["image"]
  dockerfile = "images/api/Dockerfile"
  target     = "models"
}

target "api" {
  inherits   = ["image"]
  dockerfile = "images/api/Dockerfile"
  contexts   = { models = "target:models" }
  tags       = ["${REGISTRY}embedfleet/api:${VERSION}"]
}

target "documents" {
  inherits   = ["image"]
  dockerfile = "images/documents/Dockerfile"
  contexts   = { models = "target:models" }
  tags       = ["${REGISTRY}embedfleet/documents:${VERSION}"]
}

target "embeddings-cpu" {
  inherits   = ["image"]
  dockerfile = "images/embeddings/Dockerfile"
  target     = "cpu"
  contexts   = { models = "target:models" }
  tags       = ["${REGISTRY}embedfleet/embeddings:${VERSION}-cpu"]
}

target "embeddings-gpu" {
  inherits   = ["image"]
  dockerfile = "images/embeddings/Dockerfile"
  target     = "gpu"
  contexts   = { models = "target:models" }
  args       = { GPU_LOCK = GPU_LOCK }
  tags       = ["${REGISTRY}embedfleet/embeddings:${VERSION}-gpu"]
}

# For `make images-check`, where the images of Redis and Qdrant can't be had: Debian's Redis, and the stand-in of
# `embedfleet up`. The folders have the owners that they have in the images of the two.
ARG API_IMAGE
FROM ${API_IMAGE}
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends redis-server redis-tools \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 999 -g 999 /data \
    && install -d -o 1000 -g 1000 /qdrant/storage
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /tmp/pip \
    && /tmp/pip/bin/python -m pip --python /opt/embedfleet/bin/python install --no-cache-dir "qdrant-edge-py>=0.9,<0.10"
USER 10001:10001

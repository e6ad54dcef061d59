"""Addresses in the environment, and programs that refuse to start with one sentence."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from embedfleet.runtime.settings import BlobSettings, BrokerSettings, VectorSettings, settings_sentence


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis:6379/0",
        "rediss://user:p%40ss@redis.example:6380/15?ssl_cert_reqs=none",
        "redis://:hush@[::1]:6379",
        "redis://redis/",
        "",
    ],
)
def test_addresses_of_redis(url: str) -> None:
    settings = BrokerSettings(broker_url=url, result_backend=url)
    assert (settings.broker_url, settings.result_backend) == (url, url)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("qdrant", "http://qdrant:6333"),
        ("qdrant:99", "http://qdrant:99"),
        ("http://qdrant/", "http://qdrant:6333"),
        ("http://qdrant:/", "http://qdrant:6333"),
        ("https://u:p@qdrant/prefix/?x=y", "https://u:p@qdrant:6333/prefix"),
        ("http://[::1]", "http://[::1]:6333"),
    ],
)
def test_addresses_of_qdrant_are_made_whole(url: str, whole: str) -> None:
    assert VectorSettings(url=url).url == whole


@pytest.mark.parametrize(
    "url",
    [
        "foo",
        "amqp://:hush@h",
        "redis://",
        "redis://:hush@h:abc/0",
        "redis://:hush@h:99999/0",
        "redis://:hu/sh@h:1/0",
        "redis://:hush@[::1/0",
        "redis://:hush@h:1/hush",
    ],
)
def test_what_is_no_redis_is_refused_without_its_password(url: str) -> None:
    for name in ("broker_url", "result_backend"):
        with pytest.raises(ValidationError) as caught:
            BrokerSettings.model_validate({name: url})
        sentence = settings_sentence(caught.value)
        assert "redis://" in sentence
        assert "hush" not in sentence


@pytest.mark.parametrize(
    "url", ["ftp://u:hush@h", "http://u:hush@h:abc", "http://u:hush@[::1", "http://u:hush@", "http://h:0"]
)
def test_what_is_no_qdrant_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        VectorSettings(url=url)
    assert "http://HOST:PORT" in settings_sentence(caught.value)
    assert "hush" not in settings_sentence(caught.value)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("./fleet-data/blobs", "./fleet-data/blobs"),
        ("/tệp tin/blobs", "/tệp tin/blobs"),
        ("file:///var/blobs", "/var/blobs"),
        ("s3://my-bucket", "s3://my-bucket"),
        ("s3://my.bucket/fleet/a=1/", "s3://my.bucket/fleet/a=1"),
        ("gs://bucket_1/x", "gs://bucket_1/x"),
        ("az://container/x", "az://container/x"),
    ],
)
def test_addresses_of_blobs(url: str, whole: str) -> None:
    assert BlobSettings(blob_url=url).blob_url == whole


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hush@bucket/x",
        "s3://bucket/hush/../x",
        "s3://bucket/./hush",
        "s3://bucket//hush",
        "s3://bucket/x?secret=hush",
        "s3://bucket/x#hush",
        "s3://Bucket/hush",
        "s3:///hush",
        "https://bucket.example/hush",
        "file://hush/x",
    ],
)
def test_what_is_no_place_for_blobs_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        BlobSettings.model_validate({"FLEET_BLOB_URL": url})
    assert "FLEET_BLOB_URL: " in settings_sentence(caught.value)
    assert "hush" not in settings_sentence(caught.value)


@pytest.mark.parametrize(
    ("program", "variable", "value"),
    [
        (
            ["celery", "-A", "embedfleet.documents.tasks", "worker"],
            "CELERY_BROKER_URL",
            "redis://:hush@h:abc",
        ),
        (["celery", "-A", "embedfleet.embeddings.tasks", "worker"], "QDRANT_URL", "http://u:hush@h:abc"),
        (["embedfleet.api"], "CELERY_BROKER_URL", "foo"),
        (["embedfleet.api"], "FLEET_LEASE_SECONDS", "hush"),
    ],
)
def test_a_program_that_can_not_start_says_so(program: list[str], variable: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *program],
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"embedfleet can't start: settings that are not allowed: {variable}: ")
    assert done.stderr.count("\n") == 1
    assert "hush" not in done.stdout + done.stderr


def test_a_worker_that_would_hang_on_sigterm_refuses_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "embedfleet.documents.tasks", "worker"],
        env={**os.environ, "REMAP_SIGTERM": "SIGQUIT"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "embedfleet can't start: unset REMAP_SIGTERM: with it a worker hangs on SIGTERM (celery#10490)\n",
    )

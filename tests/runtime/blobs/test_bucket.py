"""What only a bucket does: refuse, hang, redirect, and cost money."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from embedfleet.contracts.errors import ConfigurationError, DependencyDown, DocumentProcessingError, NotFound
from embedfleet.runtime.blobs import Blobs, bucket
from tests.bucket_server import BucketServer
from tests.loopback_server import LoopbackServer, QuietHandler

OPEN = "from embedfleet.runtime.blobs import open_blobs; open_blobs()"
GOOGLE = """{"gcs_base_url": "URL", "disable_oauth": true, "private_key": "hush", "private_key_id": "hush",
"client_email": "fleet@example.org"}"""
SECRETS = ("hush", "c2VjcmV0")


class Refusing(LoopbackServer):
    """A server that gives each request the same answer."""

    def __init__(self) -> None:
        self.status, self.body, self.seen = 200, "", list[str]()
        self.answers = threading.Event()
        self.answers.set()
        outer = self

        class Handler(QuietHandler):
            def answer(self) -> None:
                outer.seen.append(f"{self.command} {self.path}")
                outer.answers.wait()
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(outer.status)
                data = outer.body.encode() if self.command != "HEAD" else b""
                self.send_header("content-length", str(len(data)))
                self.send_header("etag", '"1"')
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        super().__init__(Handler)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    with Refusing() as refusing:
        for name, value in {
            "AWS_ENDPOINT_URL": refusing.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "hush",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        yield refusing
        refusing.answers.set()


def chain(error: BaseException | None) -> str:
    """Return all that a log would show of an error."""
    text = ""
    while error is not None:
        text += f"{error!r} {error}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, "NoSuchBucket", "create it, or correct FLEET_BLOB_URL"),
        (403, "InvalidAccessKeyId", "doesn't take these credentials"),
        (403, "SignatureDoesNotMatch", "doesn't take these credentials"),
        (403, "AccessDenied", "read, write, delete and list"),
        (401, "Whatever", "read, write, delete and list"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
        (400, "IllegalThing", "answers 400"),
        (503, "SlowDown", "answers 503"),
        (507, "Full", "answers 507"),
    ],
)
def test_a_refusal_says_what_to_do(
    refusing: Refusing, status: int, code: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RETRIES", 1)
    refusing.status, refusing.body = status, f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    blobs = Blobs("s3://bkt/p")
    calls = [
        blobs.check,
        lambda: blobs.get("a"),
        lambda: list(blobs.keys("pending")),
        lambda: blobs.delete("a"),
    ]
    for call in calls:
        with pytest.raises(DependencyDown) as caught:
            call()
        assert caught.value.detail.startswith("Blob store at s3://bkt/p can't be used: ")
        assert reason in caught.value.detail
        assert not any(secret in chain(caught.value) for secret in SECRETS)


def test_an_endless_refusal_is_asked_a_bounded_number_of_times(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RETRIES", 2)
    refusing.status = 500
    with pytest.raises(DependencyDown):
        Blobs("s3://bkt").check()
    assert refusing.seen == ["PUT /bkt/.check"] * 3


def test_a_store_that_hangs_is_given_up(refusing: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "REQUEST_SECONDS", 1)
    refusing.answers.clear()
    with pytest.raises(DependencyDown, match="no answer in time"):
        Blobs("s3://bkt").check()


def test_a_store_that_is_not_there_is_down(monkeypatch: pytest.MonkeyPatch, refusing: Refusing) -> None:
    monkeypatch.setattr(bucket, "RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DependencyDown, match="no connection; is the network open"):
        Blobs("s3://bkt").check()


def test_a_reader_that_may_not_write_tells_ages_by_its_own_clock(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing.status = 403
    blobs = Blobs("s3://bkt")
    before = time.time() - time.monotonic()
    assert blobs._store._probed() == pytest.approx(before, abs=60)  # type: ignore[attr-defined]
    refusing.status = 400
    with pytest.raises(DependencyDown):
        blobs._store._probed()  # type: ignore[attr-defined]


def test_an_endpoint_without_tls_must_be_asked_for(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bucket._opened("s3", "bkt", None).client_options["allow_http"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio.example")
    assert not bucket._opened("s3", "bkt", None).client_options.get("allow_http")


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("gs://bkt/p", {"GOOGLE_SERVICE_ACCOUNT_KEY": GOOGLE}),
        ("az://box/p", {"AZURE_STORAGE_ACCOUNT_NAME": "acc", "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"}),
        ("az://box/p", {"AZURE_STORAGE_ACCOUNT_NAME": "acc", "AZURE_STORAGE_SAS_KEY": "sig=hush&se=1"}),
    ],
)
def test_the_other_clouds_refuse_alike(
    refusing: Refusing, url: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RETRIES", 1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("URL", refusing.url) if "{" in value else value)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", refusing.url)
    refusing.status, refusing.body = 403, "<Error><Code>AccessDenied</Code></Error>"
    with pytest.raises(DependencyDown, match="read, write, delete and list") as caught:
        Blobs(url).check()
    assert "/p/.check" in unquote(refusing.seen[-1])
    assert not any(secret in chain(caught.value) for secret in SECRETS)


def test_google_says_404_to_a_delete_of_what_is_gone(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", GOOGLE.replace("URL", refusing.url))
    refusing.status, refusing.body = 404, "<Error><Code>NoSuchKey</Code></Error>"
    Blobs("gs://bkt").delete("gone")
    assert not Blobs("gs://bkt").exists("gone")
    refusing.body = "<Error><Code>NoSuchBucket</Code></Error>"
    with pytest.raises(DependencyDown, match="no such bucket"):
        Blobs("gs://bkt").delete("gone")


@pytest.mark.parametrize(
    ("url", "variables", "reason"),
    [
        ("az://box/p", {}, "AZURE_STORAGE_ACCOUNT_NAME is not set"),
        ("gs://bkt", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"disable_oauth": "hush"}'}, "GOOGLE_… variable"),
        (
            "az://b",
            {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "hush!"},
            "AZURE_… variable",
        ),
    ],
)
def test_a_variable_that_can_not_be_used_ends_the_process(
    url: str, variables: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Blobs(url)
    assert not any(secret in chain(caught.value) for secret in SECRETS)


def test_without_the_extra_a_process_says_how_to_get_it() -> None:
    script = f"import sys; sys.modules['obstore'] = None; {OPEN}"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"FLEET_BLOB_URL": "s3://bkt", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("embedfleet can't start: FLEET_BLOB_URL names a bucket")
    assert "embedfleet[object-store]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_needs_no_obstore() -> None:
    script = f"import sys; {OPEN}; print('obstore' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


def test_a_file_of_more_than_was_uploaded_is_not_copied(bucket_url: str) -> None:
    blobs = Blobs(bucket_url)
    blobs.put("uploads/a", b"0123456789")
    with pytest.raises(DocumentProcessingError) as caught, blobs.file("uploads/a", limit=9):
        pass
    assert caught.value.code == "limit_exceeded"
    with pytest.raises(NotFound), blobs.file("uploads/none", limit=9):
        pass


def test_a_place_for_the_copy_that_is_full_is_a_dependency_down(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(bucket_url)
    blobs.put("uploads/a", b"x")
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with pytest.raises(DependencyDown, match="Temporary folder at /proc"), blobs.file("uploads/a", limit=9):
        pass


def test_a_small_blob_is_one_request_and_a_list_with_ages_too(refusing: Refusing) -> None:
    blobs = Blobs("s3://bkt/p")
    blobs.put("pending/t", b"x" * 100)
    assert refusing.seen == ["PUT /bkt/p/pending/t"]
    refusing.seen.clear()
    refusing.body = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    assert list(blobs.ages("uploads")) == []
    assert [line.split("?")[0] for line in refusing.seen] == ["GET /bkt"]


def test_an_upload_that_breaks_off_leaves_no_parts_to_pay_for(
    bucket_server: BucketServer, bucket_url: str
) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(12 << 20)
        raise ConnectionResetError

    with pytest.raises(DependencyDown):
        Blobs(bucket_url).put("uploads/a", broken())
    name = bucket_url.split("/")[2]
    left = httpx.get(f"{bucket_server.url}/{name}?uploads", trust_env=False).raise_for_status().text
    assert "<UploadId>" not in left

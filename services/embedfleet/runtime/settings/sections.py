"""The sections: what each part of the fleet can be told."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from embedfleet.contracts.routes import Routes
from embedfleet.runtime.addresses import BlobUrl, DocumentQueues, QdrantUrl, RedisUrl
from embedfleet.runtime.settings.base import Settings


class BrokerSettings(Settings):
    """Redis and Celery."""

    broker_url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        alias="CELERY_BROKER_URL",
        repr=False,
        description="Redis: queues and the ledger.",
    )
    result_backend: RedisUrl = Field(
        "",
        alias="CELERY_RESULT_BACKEND",
        repr=False,
        description="Redis that shows states to `AsyncResult`; the broker's when empty.",
    )
    time_limit: int = Field(
        3600, ge=1, alias="CELERY_TASK_TIME_LIMIT", description="Seconds after which a task is stopped hard."
    )
    soft_time_limit: int = Field(
        3000,
        ge=1,
        alias="CELERY_TASK_SOFT_TIME_LIMIT",
        description="Seconds after which a task is asked to stop.",
    )
    prefetch_multiplier: int = Field(
        1,
        ge=1,
        alias="CELERY_WORKER_PREFETCH_MULTIPLIER",
        description="Above 1 a worker takes messages ahead of its free threads; scaling then sees less.",
    )
    max_tasks_per_child: int = Field(
        1000,
        ge=1,
        alias="CELERY_WORKER_MAX_TASKS_PER_CHILD",
        description="Files that a sandbox child reads before it is replaced.",
    )


class LedgerSettings(Settings):
    """Leases, retries and the janitor."""

    lease_seconds: float = Field(
        30,
        gt=0,
        alias="FLEET_LEASE_SECONDS",
        description="A claim without a sign of life for this long is void.",
    )
    scan_seconds: float = Field(
        5, gt=0, alias="FLEET_SCAN_SECONDS", description="Seconds between two rounds of the janitor."
    )
    retry_delays: str = Field(
        "60,120,240",
        pattern=r"^\d+(\.\d+)?(,\d+(\.\d+)?)*$",
        alias="FLEET_RETRY_DELAYS",
        description="Seconds before each retry of an unexpected error; as many retries as numbers.",
    )
    max_deaths: int = Field(
        3, ge=1, alias="FLEET_MAX_DEATHS", description="Lease expiries after which a task is poison."
    )
    hold_seconds: float = Field(
        60,
        ge=0,
        alias="FLEET_HOLD_SECONDS",
        description="How long work in hand waits for a dependency that is down before it is handed back.",
    )
    result_expires: int = Field(
        3600,
        ge=1,
        alias="FLEET_RESULT_EXPIRES",
        description="Seconds that a finished task's details are kept.",
    )
    fsck_seconds: float = Field(
        3600,
        ge=0,
        alias="FLEET_FSCK_SECONDS",
        description="Seconds between two checks of ledger, blobs and Qdrant against each other; 0: none.",
    )
    qdrant_timeout: int = Field(
        30,
        ge=1,
        alias="FLEET_QDRANT_TIMEOUT",
        description="The same variable as under Qdrant. What a run sent just before it ended may reach Qdrant"
        " up to twice these seconds later, and the janitor waits that long; api and workers must agree.",
    )
    embeddings_high_water: int = Field(
        20_000_000,
        ge=0,
        alias="FLEET_EMBEDDINGS_HIGH_WATER",
        description="Tokens that wait for the embedding workers at which document workers take no more"
        " documents, until half of them are left; 0: never.",
    )

    document_queues: DocumentQueues = Field(
        "",
        alias="FLEET_DOCUMENT_QUEUES",
        description="Queues for large files, each taken by document workers of its own:"
        " `documents-large=20000000` keeps files from 20 MB on off `documents`. Names begin with"
        " `documents-`; api and workers must agree.",
    )

    @property
    def routes(self) -> Routes:
        """Return which queue a file waits on."""
        return Routes.parse(self.document_queues)

    @property
    def late_seconds(self) -> float:
        """Return for how long after its last good beat a run may still begin to write."""
        return self.lease_seconds + self.hold_seconds

    @property
    def quiet_seconds(self) -> float:
        """Return how long after the end of a generation nothing of it is on its way to Qdrant any more.

        A request is sent a second time when its connection turns out to be stale.
        """
        return self.late_seconds + 2 * self.qdrant_timeout

    @property
    def delays(self) -> tuple[float, ...]:
        """Return the seconds before the first retry, the second, and so on."""
        return tuple(float(part) for part in self.retry_delays.split(","))


class BlobSettings(Settings):
    """Where uploaded files and chunk files are."""

    blob_url: BlobUrl = Field(
        "./fleet-data/blobs",
        alias="FLEET_BLOB_URL",
        description="What api and workers share: a folder, or `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,"
        " `az://CONTAINER/PREFIX` with the extra `object-store`; see [blobs](blobs.md).",
    )


class VectorSettings(Settings):
    """Qdrant."""

    url: QdrantUrl = Field("http://127.0.0.1:6333", alias="QDRANT_URL", description="Qdrant's REST address.")
    api_key: SecretStr = Field(SecretStr(""), alias="QDRANT_API_KEY", description="Qdrant's API key.")
    timeout: int = Field(
        30,
        ge=1,
        alias="FLEET_QDRANT_TIMEOUT",
        description="Seconds before a call to Qdrant counts as failed.",
    )


class ModelSettings(Settings):
    """Which model, and where its files are."""

    model_id: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        alias="FLEET_MODEL_ID",
        description="The embedding model; api and both pools must agree.",
    )
    model_revision: str = Field(
        "",
        pattern=r"^([0-9a-f]{40})?$",
        alias="FLEET_MODEL_REVISION",
        description="The model's commit on the hub; empty: the pinned one, else the hub's newest.",
    )
    model_path: Path | None = Field(
        None, alias="FLEET_MODEL_PATH", description="Folder with the model's files; nothing is fetched then."
    )
    model_cache: Path = Field(
        Path("~/.cache/embedfleet/models"),
        alias="FLEET_MODEL_CACHE",
        description="Where fetched models are kept.",
    )
    hub_url: str = Field("https://huggingface.co", alias="HF_ENDPOINT", description="The model hub.")
    hub_offline: bool = Field(False, alias="HF_HUB_OFFLINE", description="1: never ask the hub.")


class EngineSettings(Settings):
    """The embedding lane."""

    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", alias="FLEET_DEVICE", description="`cuda` refuses to start without a usable GPU."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        alias="FLEET_PRECISION",
        description="`auto`: fp16 on a GPU, bf16 on a CPU with AMX-bf16 or AVX512-bf16, else fp32;"
        " another refuses to start where it can't be had.",
    )
    backend: Literal["onnx", "torch"] = Field(
        "onnx", alias="FLEET_BACKEND", description="Runtime of the encoder; `torch` needs the extra `torch`."
    )
    # A GPU's kernels count the numbers of a batch in 32 bits (microsoft/onnxruntime, pull request 29264).
    # The most a token has in the encoders here: 16 heads of 512 scores where attention isn't fused, so that
    # 262144 tokens have 2^31; feed-forward layers have 4096.
    max_batch_tokens: int = Field(
        0,
        ge=0,
        le=250_000,
        alias="FLEET_MAX_BATCH_TOKENS",
        description="Most tokens, padding included, of all batches that compute at once: two with OpenVINO,"
        " else one; 0: on a CPU 1024 a thread of the encoder, at most 4096; on a GPU 131072. What is fastest"
        " and what fits into memory is found below it. Not above 250000: a GPU's kernels count in 32 bits.",
    )
    memory_limit: int = Field(
        0,
        ge=0,
        alias="FLEET_MEMORY_LIMIT",
        description="Most bytes that an embedding worker on a CPU may hold, its model included; 0: what the"
        " container or the machine allows.",
    )
    chunks_per_task: int = Field(
        256, ge=1, le=4096, alias="FLEET_CHUNKS_PER_TASK", description="Chunks in one embedding task."
    )
    threads: int = Field(
        0, ge=0, alias="FLEET_ENCODER_THREADS", description="Threads of the encoder on CPU; 0: one a core."
    )


class SandboxSettings(Settings):
    """Limits of reading one file, held by the kernel in a child process."""

    memory_bytes: int = Field(
        1_500_000_000,
        ge=200_000_000,
        alias="FLEET_SANDBOX_MEMORY",
        description="Address space of a child, bytes.",
    )
    max_pages: int = Field(5000, ge=1, alias="FLEET_MAX_PAGES", description="Pages of a PDF.")
    max_characters: int = Field(
        60_000_000, ge=1, alias="FLEET_MAX_CHARACTERS", description="Characters of extracted text."
    )


class ApiSettings(Settings):
    """The HTTP server."""

    host: str = Field("127.0.0.1", alias="FLEET_HOST", description="Address that the API binds to.")
    port: int = Field(8000, ge=0, le=65535, alias="FLEET_PORT", description="Port of the API.")
    auth: Literal["keys", "off"] = Field(
        "keys",
        alias="FLEET_AUTH",
        description="`off`: everyone is tenant `default`; needed to bind wider than loopback without keys.",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        alias="FLEET_API_KEYS",
        description='JSON list of `{"name","tenant","sha256"}`; the sha256 (hex) of each key, never the key.',
    )
    api_keys_file: Path | None = Field(
        None, alias="FLEET_API_KEYS_FILE", description="File with the same JSON list."
    )
    max_upload_bytes: int = Field(
        50_000_000, ge=1, alias="FLEET_MAX_UPLOAD_BYTES", description="Largest file that is taken, bytes."
    )


class ProcessSettings(Settings):
    """Logs and probes of a process."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="LOG_LEVEL", description="Least severe line that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", alias="FLEET_LOG_FORMAT", description="One JSON object a line, or text for people."
    )
    probe_host: str = Field(
        "0.0.0.0",  # noqa: S104 — kubelet and Prometheus ask from outside the pod
        alias="FLEET_PROBE_HOST",
        description="Address of a worker's `/livez`, `/readyz` and `/metrics`.",
    )
    probe_port: int = Field(
        9200, ge=0, le=65535, alias="FLEET_PROBE_PORT", description="Port of them; 0: none."
    )


class ClientSettings(Settings):
    """The command line."""

    url: str = Field(
        "",
        alias="FLEET_URL",
        description="The API's address; empty: the fleet of FLEET_DATA_DIR if it runs, else port 8000 here.",
    )
    api_key: SecretStr = Field(SecretStr(""), alias="FLEET_API_KEY", description="API key to call it with.")
    data_dir: Path = Field(
        Path("./fleet-data"),
        alias="FLEET_DATA_DIR",
        description="Data folder of the fleet on this machine.",
    )

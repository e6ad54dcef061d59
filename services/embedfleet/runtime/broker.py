"""The Celery app: routes computed from the jobs, settings that lose nothing.

Celery carries wake-up calls; the ledger is the truth. So messages are acked late, results are
ignored (a result store that fails must never stop a pool) and retries are the ledger's.
``celery -A embedfleet.runtime.broker inspect active`` asks both pools.
"""

import logging
import os

from celery import Celery
from kombu.exceptions import OperationalError

from embedfleet.contracts.jobs import JOBS, MAX_MESSAGE_BYTES, Job
from embedfleet.runtime import channel
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings, load, refused

VISIBILITY_TIMEOUT_SECONDS = 3600

_log = logging.getLogger(__name__)


def create_app(broker: BrokerSettings, ledger: LedgerSettings) -> Celery:
    """Return the Celery app of the api and of both pools.

    Raises:
        SystemExit: REMAP_SIGTERM is set; with the threads pool it hangs until SIGKILL.
    """
    if os.environ.get("REMAP_SIGTERM"):
        raise refused("unset REMAP_SIGTERM: with it a worker hangs on SIGTERM (celery#10490)")
    channel.install()
    app = Celery("embedfleet", broker=broker.broker_url, backend=broker.result_backend or broker.broker_url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_routes={job.task_name: {"queue": str(job.queue)} for job in JOBS},
        task_acks_late=True,
        task_ignore_result=True,
        result_expires=ledger.result_expires,
        worker_pool="threads",
        worker_disable_prefetch=broker.prefetch_multiplier == 1,
        worker_prefetch_multiplier=broker.prefetch_multiplier,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        redis_backend_health_check_interval=25,
        redis_socket_timeout=10,
        redis_socket_connect_timeout=3,
    )
    return app


app = create_app(load(BrokerSettings), load(LedgerSettings))


def publish(jobs: list[Job]) -> None:
    """Send wake-up calls, best effort: what is lost here the janitor publishes again."""
    for job in jobs:
        body = job.model_dump()
        if len(str(body)) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {job.task_name} is over {MAX_MESSAGE_BYTES} bytes")
        try:
            app.send_task(
                job.task_name,
                kwargs=body,
                task_id=job.task_id,
                queue=job.destination,
                retry_policy={"max_retries": 1, "interval_start": 0.1},
                ignore_result=True,  # else the sender subscribes to each task's result
                argsrepr="",
                kwargsrepr="",
            )
        except OperationalError as error:
            _log.warning("publish failed, the janitor will repeat it: %s: %s", job.task_id, error)
            return

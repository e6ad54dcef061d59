"""What the dashboards show. Metrics and labels are API; a test looks each up in a scrape of a real fleet."""

from dashboards.panel import (
    SCOPE,
    WINDOW,
    WORKER,
    WORKER_LEGEND,
    Board,
    Panel,
    Target,
    ends,
    fleet,
    last_hour,
    mean,
    median_and_95,
    quantile,
    rate,
    within,
    worker,
)

SEARCHABLE, SLO_SECONDS = "fleet_upload_to_searchable_seconds", 120.0
ALERTS = f'ALERTS{{{SCOPE}, alertname=~"Fleet.+", alertstate="firing"}}'
# From here on the alert on Redis's memory fires.
REDIS_FULL = 0.7

OVERVIEW = Board(
    "overview",
    "fleet overview",
    {
        "Now": [
            Panel(
                "Searchable within 120 s, of the last hour",
                "percentunit",
                [within(str(SLO_SECONDS), SEARCHABLE, "1h", "within 120 s")],
                "stat",
            ),
            Panel("Oldest task that waits", "s", [fleet("fleet_queue_oldest_age_seconds", "queue")], "stat"),
            Panel("Workers that take a queue", "short", [fleet("fleet_queue_consumers", "queue")], "stat"),
            Panel("Alerts that fire", "short", [Target(f"sum({ALERTS}) or vector(0)", "firing")], "stat"),
        ],
        "From upload to search": [
            Panel(
                "Upload to searchable",
                "s",
                median_and_95(SEARCHABLE),
                bound=SLO_SECONDS,
            ),
            Panel(
                "Share that was searchable within 120 s",
                "percentunit",
                [within(str(SLO_SECONDS), SEARCHABLE, WINDOW, "within 120 s")],
            ),
            Panel(
                "Documents chunked, and searchable",
                "ops",
                [rate("fleet_documents_total", "type"), rate(f"{SEARCHABLE}_count", legend="searchable")],
            ),
        ],
        "Queues": [
            Panel("Tasks that wait", "short", [fleet("fleet_queue_depth", "queue")]),
            Panel(
                "Age of the oldest task that waits", "s", [fleet("fleet_queue_oldest_age_seconds", "queue")]
            ),
            Panel("Tasks that run", "short", [fleet("fleet_queue_inflight", "queue")]),
            Panel("Tokens of tasks that have not ended", "short", [fleet("fleet_queue_tokens", "queue")]),
            Panel(
                "Wait for a worker, 95th percentile",
                "s",
                [quantile(0.95, "fleet_task_wait_seconds", "queue")],
            ),
            Panel("Workers that take a queue", "short", [fleet("fleet_queue_consumers", "queue")]),
        ],
        "Throughput": [
            Panel("Ends of runs", "ops", [rate("fleet_tasks_total", "task", "state")]),
            Panel("Seconds of a run by stage, average", "s", [mean("fleet_task_seconds", "task", "stage")]),
            Panel(
                "Chunks made, and points stored",
                "ops",
                [
                    rate("fleet_document_chunks_total", legend="chunks"),
                    rate("fleet_points_total", legend="points"),
                ],
            ),
            Panel("Bytes read", "Bps", [rate("fleet_document_bytes_total", "type")]),
            Panel("Pages read", "ops", [rate("fleet_document_pages_total", "type")]),
            Panel(
                "File in to chunks out, 95th percentile", "s", [quantile(0.95, "fleet_parse_seconds", "type")]
            ),
        ],
        "Errors and HTTP": [
            Panel(
                "Tasks that failed, by code",
                "ops",
                [ends("FAILURE")],
            ),
            Panel("Requests by status", "reqps", [rate("fleet_http_requests_total", "status")]),
            Panel(
                "Time to answer, 95th percentile",
                "s",
                [quantile(0.95, "fleet_http_request_seconds", "method", "route")],
            ),
            Panel("Uploads refused, by reason", "reqps", [rate("fleet_admission_refusals_total", "reason")]),
        ],
    },
)

ENGINE = Board(
    "engine",
    "embedding engine",
    {
        "Throughput": [
            Panel(
                "Tokens a second, without padding",
                "short",
                [rate("fleet_tokens_total", *WORKER, legend=WORKER_LEGEND)],
            ),
            Panel(
                "Share of the time that the lane encodes", "percentunit", [worker("fleet_lane_busy_ratio")]
            ),
            Panel("Points stored", "ops", [rate("fleet_points_total", *WORKER, legend=WORKER_LEGEND)]),
        ],
        "Batches": [
            Panel(
                "Rows and documents a batch, average",
                "short",
                [
                    mean("fleet_batch_rows", legend="rows"),
                    mean("fleet_batch_documents", legend="documents"),
                ],
            ),
            Panel(
                "Tokens a batch, with padding",
                "short",
                [
                    mean("fleet_batch_tokens", legend="average"),
                    quantile(0.95, "fleet_batch_tokens", legend="95 %"),
                ],
            ),
            Panel("Padding, share of the tokens", "percentunit", [worker("fleet_padding_ratio")]),
            Panel("Batches", "ops", [rate("fleet_batch_rows_count", *WORKER, legend=WORKER_LEGEND)]),
            Panel(
                "A batch in the encoder",
                "s",
                median_and_95("fleet_encode_seconds"),
            ),
            Panel(
                "Wait of a batch's first row for the lane",
                "s",
                median_and_95("fleet_lane_wait_seconds"),
            ),
        ],
        "Memory of the device": [
            Panel(
                "Memory, of the device or of what may be used",
                "bytes",
                [worker("fleet_device_memory_bytes", "kind")],
            ),
            Panel("Token budget of a batch", "short", [worker("fleet_token_budget")]),
            Panel(
                "Batches that ran out of memory, and were split, last hour",
                "short",
                [
                    Target(last_hour("fleet_oom_total", *WORKER).expr, f"out of memory {WORKER_LEGEND}"),
                    Target(last_hour("fleet_batch_splits_total", *WORKER).expr, f"split {WORKER_LEGEND}"),
                ],
            ),
        ],
        "Around the encoder": [
            Panel("Rows that wait for the lane", "short", [worker("fleet_submit_queue_rows")]),
            Panel(
                "One upsert",
                "s",
                median_and_95("fleet_upsert_seconds"),
            ),
            Panel(
                "Chunks over the model's limit",
                "ops",
                [rate("fleet_truncated_chunks_total", *WORKER, legend=WORKER_LEGEND)],
            ),
            Panel(
                "Models",
                "short",
                [worker("fleet_model_info", "model_key", "device", "provider", "precision")],
                "table",
            ),
        ],
    },
)

RELIABILITY = Board(
    "reliability",
    "reliability",
    {
        "Alerts": [
            Panel(
                "Alerts that fire",
                "short",
                [Target(f"sum by (namespace, alertname) ({ALERTS})", "{{namespace}} {{alertname}}")],
                "table",
            ),
        ],
        "Runs that did not end well": [
            Panel(
                "Runs to be tried again",
                "ops",
                [ends("RETRY")],
            ),
            Panel(
                "Runs handed back unspent",
                "ops",
                [ends("HANDED_BACK")],
            ),
            Panel(
                "Claims of what had been claimed before, last hour",
                "short",
                [last_hour("fleet_task_redeliveries_total", "task")],
            ),
            Panel(
                "Leases that expired, last hour",
                "short",
                [last_hour("fleet_ledger_expired_leases_total", "queue")],
            ),
            Panel(
                "Tasks given up as poison, last hour",
                "short",
                [last_hour("fleet_poison_tasks_total", "task")],
            ),
            Panel(
                "Sandboxes that were killed or died, last hour",
                "short",
                [last_hour("fleet_sandbox_kills_total", "reason")],
            ),
        ],
        "Queues and the janitor": [
            Panel(
                "Messages written anew, last hour",
                "short",
                [last_hour("fleet_ledger_republished_total", "queue")],
            ),
            Panel("Due tasks that the janitor has not taken up", "short", [fleet("fleet_ledger_due_tasks")]),
            Panel(
                "Time since the janitor's last round",
                "s",
                [
                    Target(
                        f"time() - {fleet('fleet_janitor_last_round_timestamp_seconds').expr}",
                        "{{namespace}}",
                    )
                ],
            ),
            Panel(
                "Queues that wait for the embedding workers", "short", [fleet("fleet_queue_held", "queue")]
            ),
            Panel("Messages that were dropped", "ops", [rate("fleet_messages_dropped_total", "reason")]),
            Panel(
                "Workers that have parked",
                "short",
                [fleet("fleet_queue_parked_consumers", "queue")],
            ),
            Panel("Uploads refused, by reason", "reqps", [rate("fleet_admission_refusals_total", "reason")]),
        ],
        "Stores": [
            Panel(
                "Memory of Redis, share of what it may use",
                "percentunit",
                [fleet("fleet_redis_memory_ratio")],
                bound=REDIS_FULL,
            ),
            Panel("Calls of Qdrant that failed", "ops", [rate("fleet_vector_store_errors_total", "code")]),
            Panel(
                "One upsert, 95th percentile", "s", [quantile(0.95, "fleet_upsert_seconds", legend="95 %")]
            ),
            Panel(
                "What the last check of ledger, blobs and Qdrant found",
                "short",
                [fleet("fleet_fsck_findings", "kind")],
            ),
            Panel(
                "Time since the last check",
                "s",
                [
                    Target(
                        f"time() - ({fleet('fleet_fsck_last_run_timestamp_seconds').expr} > 0)",
                        "{{namespace}}",
                    )
                ],
            ),
        ],
    },
)

BOARDS = (OVERVIEW, ENGINE, RELIABILITY)

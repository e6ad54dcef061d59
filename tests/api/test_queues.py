"""The queues of the whole fleet, for people and for Prometheus."""

from collections.abc import Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from embedfleet.api.ops import FleetGauges
from embedfleet.contracts.jobs import ProcessDocument
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.queues import Overview
from embedfleet.runtime.ledger.records import Claim, Part
from tests.api.serving import ALPHA_KEY, BETA_KEY, Api, base_env, fetch, keys_json, send, serving, wait_until

QUEUES = {"documents", "embeddings", "documents-large"}
OF_A_QUEUE = {
    "fleet_queue_depth",
    "fleet_queue_inflight",
    "fleet_queue_oldest_age_seconds",
    "fleet_queue_consumers",
    "fleet_queue_parked_consumers",
}
GAUGES = {*OF_A_QUEUE, "fleet_queue_tokens", "fleet_queue_held", "fleet_ledger_due_tasks"}
ROUND = "fleet_janitor_last_round_timestamp_seconds"
SEARCHABLE = "fleet_upload_to_searchable_seconds"
COUNTERS = {"fleet_ledger_expired_leases", "fleet_ledger_republished", "fleet_poison_tasks"}
ROUTE = "/api/v1/queues"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that the tests may fill and kill."""
    with RedisServer(tmp_path_factory.mktemp("queues") / "redis") as server:
        yield server


@pytest.fixture(scope="module")
def server(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with a queue for large files."""
    folder = tmp_path_factory.mktemp("queues-api")
    env = base_env(redis.url, folder) | {
        "FLEET_API_KEYS": keys_json(),
        "FLEET_DOCUMENT_QUEUES": "documents-large=1000",
    }
    with serving(env, folder) as running:
        yield running


@pytest.fixture
def api(server: Api) -> Api:
    """The same with nothing in Redis."""
    server.redis.flushall()
    return server


def ask(api: Api, key: str = ALPHA_KEY) -> dict[str, dict[str, object]]:
    answer = fetch(api.url + ROUTE, headers={"X-API-Key": key})
    assert answer.status_code == 200, answer.text
    return {queue.pop("name"): queue for queue in answer.json()["queues"]}


def scrape(api: Api) -> dict[str, Metric]:
    exposition = fetch(f"{api.url}/metrics").text
    return {family.name: family for family in text_string_to_metric_families(exposition)}


def values(family: Metric) -> dict[str, float]:
    """Return the values of a metric that has one label, by that."""
    return {"".join(one.labels.values()): one.value for one in family.samples}


def searchable(found: dict[str, Metric]) -> tuple[float, float]:
    """Return how many documents were counted, and their seconds."""
    shown = {one.name: one.value for one in found[SEARCHABLE].samples}
    return shown[f"{SEARCHABLE}_count"], shown[f"{SEARCHABLE}_sum"]


def test_every_series_is_there_before_anything_has_happened(api: Api) -> None:
    found = scrape(api)
    for name in (*OF_A_QUEUE, "fleet_ledger_expired_leases", "fleet_ledger_republished"):
        assert values(found[name]) == dict.fromkeys(QUEUES, 0), name
    assert values(found["fleet_queue_tokens"]) == {"embeddings": 0}
    assert values(found["fleet_queue_held"]) == {"documents": 0, "documents-large": 0}
    assert searchable(found) == (0, 0)
    assert values(found["fleet_poison_tasks"]) == {"process_document": 0, "generate_embeddings": 0}
    assert values(found["fleet_ledger_due_tasks"]) == {"": 0}
    assert "fleet_redis_memory_ratio" not in found, "this Redis has no limit"
    assert list(ask(api)) == ["documents", "embeddings", "documents-large"]


def test_people_and_prometheus_are_told_the_same(api: Api) -> None:
    with api.client(**{"X-API-Key": ALPHA_KEY}) as alpha:
        first, second = (send(alpha, f"{name}.txt").json()["task_id"] for name in ("first", "second"))
        send(alpha, "large.txt", b"Some plain words. " * 100)
    claim = api.ledger.claim(ProcessDocument(task_id=first), "one")
    assert isinstance(claim, Claim)
    assert api.ledger.chunked(claim, [Part("part", 0, 1, "f", 70)], {})
    assert isinstance(api.ledger.claim(ProcessDocument(task_id=second), "one"), Claim)
    api.ledger.beat("documents", "one", [])
    api.ledger.beat("documents", "two", [], parked="Qdrant")
    api.redis.zadd("index:tasks:alpha:PENDING", {"part": api.ledger.now() - 100})
    api.redis.hset("load", "resume_at", 1)
    told = ask(api, BETA_KEY)
    ages = {name: queue.pop("oldest_age_seconds") for name, queue in told.items()}
    assert told == {
        "documents": {"depth": 2, "inflight": 1, "tokens": None, "consumers": 2, "parked": 1, "held": True},
        "embeddings": {"depth": 0, "inflight": 0, "tokens": 70, "consumers": 0, "parked": 0, "held": None},
        "documents-large": {
            **{"depth": 1, "inflight": 0, "tokens": None, "consumers": 0, "parked": 0, "held": True},
        },
    }
    assert ages["documents"] == 0
    assert 100 <= float(str(ages["embeddings"])) < 160
    found = scrape(api)
    for field, name in (
        *(("depth", "fleet_queue_depth"), ("inflight", "fleet_queue_inflight")),
        *(("consumers", "fleet_queue_consumers"), ("parked", "fleet_queue_parked_consumers")),
    ):
        assert values(found[name]) == {queue: one[field] for queue, one in told.items()}
    assert values(found["fleet_queue_tokens"]) == {"embeddings": 70}
    assert values(found["fleet_queue_held"]) == {"documents": 1, "documents-large": 1}
    assert 100 <= values(found["fleet_queue_oldest_age_seconds"])["embeddings"] < 160


def test_what_became_searchable_before_a_scrape_is_no_part_of_it(api: Api) -> None:
    before, _ = searchable(scrape(api))
    with api.client(**{"X-API-Key": ALPHA_KEY}) as client:
        task_id = send(client, "bài thơ.txt").json()["task_id"]
    claim = api.ledger.claim(ProcessDocument(task_id=task_id), "one")
    assert isinstance(claim, Claim)
    (part,) = api.ledger.chunked(claim, [Part("part", 0, 1, "f")], {}) or []
    claim = api.ledger.claim(part, "two")
    assert isinstance(claim, Claim)
    assert api.ledger.embedded(claim, {}) is True
    ask(api)
    assert searchable(scrape(api))[0] == before, "a first sample is no increase to Prometheus"
    count, seconds = searchable(scrape(api))
    assert count == before + 1
    assert 0 < seconds < 600
    assert searchable(scrape(api)) == (count, seconds)


def test_the_last_round_of_the_janitor_is_shown_once_there_was_one(api: Api) -> None:
    assert ROUND not in {family.name for family in FleetGauges(Overview((), 0), 0).collect()}
    api.ledger.note_progress("round")
    (at,) = values(scrape(api)[ROUND]).values()
    assert 0 <= api.ledger.now() - at < 60


def test_labels_are_a_closed_set_whatever_was_uploaded(api: Api) -> None:
    ids = list[str]()
    for key in (ALPHA_KEY, BETA_KEY):
        with api.client(**{"X-API-Key": key}) as client:
            answer = send(client, "Báo cáo quý III.txt", collection="bao-cao").json()
            ids += answer["task_id"], answer["document_id"]
    exposition = fetch(f"{api.url}/metrics").text
    assert not [one for one in (*ids, "bao-cao", "alpha", "beta", "Báo") if one in exposition]
    found = scrape(api)
    of_queues = (*OF_A_QUEUE, "fleet_queue_tokens", "fleet_ledger_expired_leases", "fleet_ledger_republished")
    assert {label for name in of_queues for label in values(found[name])} == QUEUES
    assert values(found["fleet_poison_tasks"]).keys() == {"process_document", "generate_embeddings"}


@pytest.mark.parametrize("path", [ROUTE, f"{ROUTE}/"])
def test_it_takes_a_key_like_any_other_route(api: Api, path: str) -> None:
    assert fetch(api.url + path).status_code == 401
    assert fetch(api.url + path, headers={"X-API-Key": BETA_KEY}).status_code == 200


def test_memory_is_shown_where_it_has_a_limit(api: Api) -> None:
    api.redis.set("ballast", "x" * 5_000_000)  # so that a connection more or less makes no difference
    used = int(api.redis.info("memory")["used_memory"])
    api.redis.config_set("maxmemory", used * 2)
    try:
        assert values(scrape(api)["fleet_redis_memory_ratio"])[""] == pytest.approx(0.5, abs=0.05)
    finally:
        api.redis.config_set("maxmemory", 0)


def test_what_redis_alone_knows_is_absent_while_it_is_down(api: Api, redis: RedisServer) -> None:
    assert scrape(api).keys() >= GAUGES | COUNTERS
    redis.kill()
    try:
        found = scrape(api)
        assert not found.keys() & (GAUGES | {"fleet_redis_memory_ratio"})
        assert found.keys() >= COUNTERS | {"fleet_http_requests"}
        answer = fetch(api.url + ROUTE, headers={"X-API-Key": ALPHA_KEY})
        assert (answer.status_code, answer.json()["code"]) == (503, "dependency_down")
    finally:
        redis.start()
    wait_until(lambda: scrape(api).keys() >= GAUGES, 10)

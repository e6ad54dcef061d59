"""One run: find the sustainable rate, offer a multiple of it, wait for what was accepted."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from embedfleet.runtime.ledger.redis_client import connect
from tests.e2e.fleet import Fleet, until
from tests.saturation.offers import SENDERS, Offers, Tally
from tests.saturation.watch import MB, Peaks, watched

GREEDY, MODEST = "greedy-secret", "modest-secret"
# The greedy key has its own limit below the fleet's: both kinds of refusal are seen.
SHARES = {GREEDY: 2, MODEST: 1}
FINISH_SECONDS = 900
# What a READY document of one part keeps in Redis until its tasks expire: measured 9.6 KB, 4.9 of them its
# two tasks, 2.7 the document, 1.0 their results for `AsyncResult` (Redis 6.2, 2026-11-26).
READY_BYTES = 10_000


@dataclass(frozen=True)
class Plan:
    """How hard and how long.

    Attributes:
        documents: the fleet's limit of documents; of the greedy key it is two thirds.
        tokens: the embeddings' high-water mark.
        sentences: length of a document.
        tries: documents by which the sustainable rate is found.
        seconds: how long the multiple of it is offered.
    """

    documents: int
    tokens: int
    sentences: int
    tries: int
    seconds: float
    times: float = 3.0

    @property
    def settings(self) -> dict[str, str]:
        """What the fleet is started with."""
        keys = [{"name": secret, "tenant": "default", "sha256": _sha(secret)} for secret in SHARES]
        return {
            "FLEET_API_KEYS": json.dumps(keys),
            "FLEET_MAX_QUEUED_DOCUMENTS": str(self.documents),
            "FLEET_MAX_DOCUMENTS_PER_KEY": str(self.documents * 2 // 3),
            "FLEET_EMBEDDINGS_HIGH_WATER": str(self.tokens),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    rate: float
    tally: Tally
    states: Mapping[str, int]
    at_rest: Peaks
    peaks: Peaks
    seconds: float

    @property
    def ready(self) -> int:
        return self.states.get("READY", 0)

    @property
    def lost(self) -> int:
        """Accepted documents that are not READY."""
        return len(self.tally.accepted) - self.ready

    def line(self) -> str:
        tally, peaks = self.tally, self.peaks
        return (
            f"saturation ok: offered={tally.offered} accepted={len(tally.accepted)} ready={self.ready}"
            f" refused_429={tally.statuses[429]} refused_503={tally.statuses[503]} lost={self.lost}"
            f" peak_queued={peaks.queued} peak_tokens={peaks.tokens} redis_peak_mb={peaks.redis / MB:.1f}"
        )


def saturate(fleet: Fleet, plan: Plan) -> Outcome:
    """Do it."""
    warm = Offers(fleet, SHARES, seed=1, sentences=plan.sentences)
    with watched(fleet) as at_rest:
        rate = _sustainable(fleet, warm, plan)
    offers = Offers(fleet, SHARES, seed=2, sentences=plan.sentences)
    began = time.monotonic()
    with watched(fleet) as peaks:
        offers.at_rate(rate * plan.times, plan.seconds)
        states = _ended(fleet, offers.tally)
    warm.close()
    offers.close()
    return Outcome(rate, offers.tally, states, at_rest, peaks, time.monotonic() - began)


def problems(outcome: Outcome, plan: Plan) -> list[str]:
    """Return what did not hold."""
    tally, peaks = outcome.tally, outcome.peaks
    tokens_of_one = plan.sentences * 40
    checks = {
        "every accepted document is READY": outcome.lost == 0 and bool(tally.accepted),
        "only 202, 429 and 503 are answered": set(tally.statuses) <= {202, 429, 503},
        "both kinds of refusal were seen": tally.statuses[429] > 0 and tally.statuses[503] > 0,
        "each refusal has Retry-After": tally.without_retry_after == 0,
        "documents stay at their limit, but for those being copied": peaks.queued <= plan.documents + SENDERS,
        "tokens stay at the high-water mark, but for documents in hand": peaks.tokens
        <= plan.tokens + 2 * tokens_of_one,
        "nothing is under way in the end": not _load(outcome),
        "Redis holds what was accepted, and 2 MB more than at rest": peaks.redis
        <= outcome.at_rest.redis + READY_BYTES * (len(tally.accepted) + SENDERS) + 2 * MB,
    }
    for member, rss in peaks.rss.items():
        checks[f"the memory of {member} stays within 150 MB of what it was before"] = (
            rss <= outcome.at_rest.rss[member] + 150 * MB
        )
    return [what for what, holds in checks.items() if not holds]


def _load(outcome: Outcome) -> bool:
    return outcome.states.get("under way", 0) > 0


def _sustainable(fleet: Fleet, offers: Offers, plan: Plan) -> float:
    """Return the documents a second that the fleet finishes while it always has some; it is warm then."""
    redis = connect(fleet.ready["redis"])

    def feed(goal: int) -> int:
        while (ended := len(offers.tally.accepted) - int(redis.hget("load", "documents") or 0)) < goal:
            if offers.one(MODEST) != 202:
                time.sleep(0.05)
        return ended

    warm = feed(plan.tries // 4)
    began = time.monotonic()
    finished = feed(warm + plan.tries)
    rate = (finished - warm) / (time.monotonic() - began)
    redis.close()
    _ended(fleet, offers.tally)
    return rate


def _ended(fleet: Fleet, tally: Tally) -> dict[str, int]:
    """Wait until nothing is under way; return how the accepted documents ended, and what was left."""
    redis = connect(fleet.ready["redis"])
    until(lambda: not redis.hgetall("load"), "nothing is under way", FINISH_SECONDS)
    states: dict[str, int] = {"under way": len(redis.hgetall("load"))}
    for document, key in tally.accepted:
        answer = fleet.http.get(f"/documents/{document}", headers={"X-API-Key": key})
        state = answer.json()["state"] if answer.status_code == httpx.codes.OK else "MISSING"
        states[state] = states.get(state, 0) + 1
    redis.close()
    return states


def _sha(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

"""C3: many documents, faults of all kinds at random, and nothing may be lost, doubled or left over."""

import threading
import time
from collections import Counter

from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import File, pdf_file, text_file
from tests.chaos.harm.faults import Faults
from tests.chaos.judge.checker import check
from tests.chaos.judge.report import Result
from tests.chaos.stack import Stack

DOCUMENTS = 200
FAULT_SECONDS = 120.0
# The state log looks five times a second, and as late again on a busy machine.
LOG_SECONDS = 1.0
# An api that ends while the schedule waits for a stopped worker, for two leases at most, is started only
# after that.
UPLOAD_PATIENCE = 120.0
SPREAD = 0.9


def storm(
    stack: Stack, seed: int, documents: int = DOCUMENTS, fault_seconds: float = FAULT_SECONDS
) -> Result:
    """C3: upload while processes die; afterwards every promise is kept, exactly."""
    result = Result("C3")
    with Client(stack, f"c3-{seed}") as client:
        files = [_file(number, seed) for number in range(documents)]
        uploads = threading.Thread(target=_upload_all, args=(client, files, fault_seconds), name="uploads")
        uploads.start()
        faults = Faults(stack, client, seed)
        faults.run(fault_seconds, uploads)
        healed_at = time.monotonic()
        uploads.join()
        client.wait_all(60 + documents * 3)
        result.hits = faults.hits
        result.recovery_s = max(_recoveries(client, faults, healed_at), default=0.0)
        allowed = stack.shape.lease_seconds + stack.shape.scan_seconds + LOG_SECONDS
        if result.recovery_s > allowed:
            result.problems.append(f"a task lay for {result.recovery_s:.1f} s, more than {allowed:g} s")
        result.verdict = check(client)
        if len(client.promises.accepted) < documents:
            refused = dict(Counter(one.status for one in client.promises.refused))
            result.problems.append(
                f"only {len(client.promises.accepted)} of {documents} were ever accepted; refused: {refused}"
            )
    return result


def _file(number: int, seed: int) -> File:
    if number % 5 == 0:
        return pdf_file(f"pages-{number}", seed, 3_000, 8)
    return text_file(f"text-{number}", seed, 4_000 + 1_500 * (number % 7))


def _upload_all(client: Client, files: list[File], seconds: float) -> None:
    """Upload each file until it is taken, as a patient user would, spread over the time of the faults."""
    start = time.monotonic()
    for number, file in enumerate(files, 1):
        gives_up_at = time.monotonic() + UPLOAD_PATIENCE
        while not isinstance(client.try_upload(file), Accepted) and time.monotonic() < gives_up_at:
            time.sleep(0.5)
        time.sleep(max(start + SPREAD * seconds * number / len(files) - time.monotonic(), 0))


def _recoveries(client: Client, faults: Faults, healed_at: float) -> list[float]:
    """Return for each death how long its tasks were held in the dead process's name.

    While Redis or the api with the janitor is away nobody can take over: then it counts from its return.
    """
    found = []
    for death in faults.deaths:
        if released := client.log.released_after(death.pid, death.at):
            since = max([death.at, *(back for back in faults.outages if death.at < back < released)])
            found.append(released - since)
    claimed = client.log.first_claim_after(healed_at)
    if claimed != float("inf"):
        found.append(claimed - healed_at)
    return found

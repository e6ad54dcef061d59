"""What a pool does about children that nobody uses."""

import os
import signal

from tests.documents.test_sandbox import wait_until


def test_a_child_that_died_idle_leaves_no_pipe_open(make_pool):
    pool = make_pool()
    wait_until(pool.pids)
    child = pool._idle[0]
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not child.alive())
    with pool._changed:
        pool._changed.notify_all()
    wait_until(lambda: pool.losses)
    assert pool.losses == ["idle"]
    assert child._process.stdout.closed

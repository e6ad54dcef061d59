"""What an entry point must not load: import-linter can't see what third parties import."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = runpy.run_path(str(Path(__file__).parents[2] / "images/footprint.py"))["FORBIDDEN"]


@pytest.mark.parametrize("entry", FORBIDDEN)
def test_entry_point_loads_no_more_than_it_needs(entry: str, tmp_path: Path) -> None:
    script = f"import json, sys, {entry}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    environment = {**os.environ, "FLEET_BLOB_URL": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert not FORBIDDEN[entry] & set(json.loads(done.stdout))

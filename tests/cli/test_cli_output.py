"""JSON lines in a pipe: what a reader of any encoding gets, and that each stays one line."""

import json
import os
import subprocess
import sys

import pytest

EMIT = "import json, sys; from embedfleet.cli.output import emit; emit(json.loads(sys.argv[1]))"
VIETNAMESE = "Ngửi thấy mùi gas rò rỉ"
NASTY = "a\udc80b\x7f\x85\x9b31m\u2028\u2029\u202e\u2066 \U0001f600"


def emitted(text: str, **env: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", EMIT, json.dumps({"text": text})],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env},
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout


def test_text_can_be_read_in_a_pipe() -> None:
    line = emitted(VIETNAMESE, PYTHONUTF8="1").decode()
    assert line == f'{{"text": "{VIETNAMESE}"}}\n'


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONUTF8": "1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "cp1258"},
        {"PYTHONIOENCODING": "utf-8:surrogateescape"},
    ],
    ids=str,
)
@pytest.mark.parametrize("text", [VIETNAMESE, NASTY], ids=["vietnamese", "nasty"])
def test_no_encoding_of_stdout_and_no_text_breaks_a_line(text: str, env: dict[str, str]) -> None:
    encoding = env.get("PYTHONIOENCODING", "utf-8").split(":")[0]
    (line,) = emitted(text, **env).decode(encoding).splitlines()
    assert json.loads(line) == {"text": text}


def test_what_drives_a_terminal_stays_escaped() -> None:
    line = emitted(NASTY, PYTHONUTF8="1").decode()
    assert "\\udc80b\\u007f\\u0085\\u009b31m\\u2028\\u2029\\u202e\\u2066 \U0001f600" in line

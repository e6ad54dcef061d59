"""Every setting of every process: one class a concern, one line of documentation a variable.

Names that the field already knows keep their name (``CELERY_*``, ``QDRANT_*``, ``LOG_LEVEL``);
ours start with ``FLEET_``. The table in ``docs/environment.md`` is generated from this package.
"""

from embedfleet.runtime.settings.admission import AdmissionSettings
from embedfleet.runtime.settings.base import EXIT_REFUSED, Section, Settings, load, refused, settings_sentence
from embedfleet.runtime.settings.sections import (
    ApiSettings,
    BlobSettings,
    BrokerSettings,
    ClientSettings,
    EngineSettings,
    LedgerSettings,
    ModelSettings,
    ProcessSettings,
    SandboxSettings,
    VectorSettings,
)
from embedfleet.runtime.settings.tracing import TracingSettings

SECTIONS: tuple[type[Settings], ...] = (
    BrokerSettings,
    LedgerSettings,
    AdmissionSettings,
    BlobSettings,
    VectorSettings,
    ModelSettings,
    EngineSettings,
    SandboxSettings,
    ApiSettings,
    ProcessSettings,
    TracingSettings,
    ClientSettings,
)

__all__ = [
    "EXIT_REFUSED",
    "SECTIONS",
    "AdmissionSettings",
    "ApiSettings",
    "BlobSettings",
    "BrokerSettings",
    "ClientSettings",
    "EngineSettings",
    "LedgerSettings",
    "ModelSettings",
    "ProcessSettings",
    "SandboxSettings",
    "Section",
    "Settings",
    "TracingSettings",
    "VectorSettings",
    "load",
    "refused",
    "settings_sentence",
]

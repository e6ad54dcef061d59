"""Traces: OpenTelemetry's own variables, as far as it is decided here whether and where they go."""

from typing import Literal

from pydantic import Field

from embedfleet.runtime.settings.base import Settings


class TracingSettings(Settings):
    """Traces: see docs/tracing.md; off unless an endpoint or an exporter is set."""

    exporter: Literal["", "otlp", "console", "none"] = Field(
        "",
        alias="OTEL_TRACES_EXPORTER",
        description="`otlp`, `console` (to stdout) or `none`; when empty, `otlp` where an endpoint is set."
        " Needs the extra `otel`.",
    )
    endpoint: str = Field(
        "",
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        repr=False,
        description="Where a collector takes OTLP over HTTP: `http://HOST:4318`.",
    )
    traces_endpoint: str = Field(
        "",
        alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        repr=False,
        description="The same for traces alone, with its path: `http://HOST:4318/v1/traces`.",
    )
    protocol: str = Field(
        "http/protobuf",
        alias="OTEL_EXPORTER_OTLP_PROTOCOL",
        description="No other is spoken.",
    )
    traces_protocol: str = Field(
        "",
        alias="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        description="The same for traces alone.",
    )
    service_name: str = Field(
        "",
        alias="OTEL_SERVICE_NAME",
        description="Name of the service; `embedfleet-api`, `embedfleet-documents` or `embedfleet-embeddings`"
        " when empty.",
    )
    disabled: bool = Field(
        False, alias="OTEL_SDK_DISABLED", description="`true`: no traces, whatever else is set."
    )

    @property
    def wanted(self) -> str:
        """The exporter that is asked for: `otlp`, `console` or `none`."""
        if self.disabled:
            return "none"
        return self.exporter or ("otlp" if self.endpoint or self.traces_endpoint else "none")

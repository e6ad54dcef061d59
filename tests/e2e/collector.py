"""A collector on the loopback address that takes OTLP over HTTP and remembers the spans."""

import gzip
from typing import Any, NamedTuple

from tests.loopback_server import LoopbackServer, QuietHandler


class Span(NamedTuple):
    """One span; ids in hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]


class Collector(LoopbackServer):
    """Takes spans until the block ends.

    Attributes:
        url: what OTEL_EXPORTER_OTLP_ENDPOINT is set to.
        spans: what came, in the order in which it came.
        raw: the bodies.
    """

    def __init__(self) -> None:
        collector, self.spans, self.raw = self, list[Span](), list[bytes]()

        class Handler(QuietHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

        super().__init__(Handler)

    def take(self, body: bytes) -> None:
        """Decode what an exporter sent."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        service,
                        one.name,
                        one.trace_id.hex(),
                        one.span_id.hex(),
                        one.parent_span_id.hex(),
                        _values(one.attributes),
                    )
                    for one in scope.spans
                ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}

"""An upload's form: every check that needs neither the ledger nor a parser. Nothing is stored here."""

import tempfile
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import Request
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile

from embedfleet.api.http.problems import words
from embedfleet.api.uploads.metadata import MAX_BYTES, MAX_KEYS, CollectionName, parse_metadata
from embedfleet.contracts.documents import ChunkOptions
from embedfleet.contracts.errors import DependencyDown, InvalidRequest

MAX_FIELDS = 10
MAX_FIELD_BYTES = 16_384
MAX_FILENAME_LENGTH = 255

_CODES = {
    "collection": "invalid_collection",
    "document_key": "invalid_document_key",
    "metadata": "invalid_metadata",
}
_CHUNKING = "invalid_chunking"


def plain_text(text: str) -> str:
    """Return text in NFC.

    Raises:
        ValueError: it holds control characters, line separators or lone surrogates.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("control characters and line breaks are not allowed")
    return unicodedata.normalize("NFC", text)


class UploadForm(ChunkOptions):
    """The text fields of an upload."""

    model_config = ConfigDict(extra="forbid")

    collection: CollectionName = Field(description="Which collection the document is in.")
    document_key: Annotated[str, AfterValidator(plain_text)] | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Names the document within its collection: the same key again is the same document."
        " The file name when it is left out.",
    )
    metadata: Annotated[
        dict[str, Any],
        BeforeValidator(parse_metadata),
        WithJsonSchema({"type": "string", "contentMediaType": "application/json"}),
    ] = Field(
        default_factory=dict,
        description=f"A flat JSON object of strings, numbers and booleans: at most {MAX_KEYS} keys"
        f" and {MAX_BYTES} bytes. Comes back with every hit; search can filter by it.",
    )

    @property
    def options(self) -> ChunkOptions:
        """How to cut the document."""
        return ChunkOptions.model_validate(self.model_dump(include=set(ChunkOptions.model_fields)))


def form_schema() -> dict[str, Any]:
    """Return the OpenAPI description of the form, the file included."""
    schema = UploadForm.model_json_schema()
    schema["properties"] = {"file": {"type": "string", "format": "binary"}, **schema["properties"]}
    schema["required"] = ["file", *schema["required"]]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[tuple[UploadForm, UploadFile]]:
    """Read the body; the file is there until the block ends.

    Raises:
        InvalidRequest: no multipart form, or a field is missing, sent twice, unknown or wrong.
        DependencyDown: the folder for temporary files is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    # Any codec of Python could be named here, and some of them are slow or make lone surrogates.
    if kind != b"multipart/form-data" or options.get(b"charset", b"utf-8").lower() != b"utf-8":
        raise InvalidRequest(
            "Send the file as multipart/form-data in UTF-8.", code="unsupported_media_type", status=415
        )
    try:
        form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    except OSError as error:
        reason = error.strerror or "the disk refused"
        raise DependencyDown("The folder for temporary files", tempfile.gettempdir(), reason) from error
    try:
        yield _checked(list(form.multi_items()))
    finally:
        await form.close()


def clean_filename(raw: str) -> str:
    """Return a file's name without its path, in NFC; it is metadata only and names nothing on disk.

    Raises:
        InvalidRequest: `invalid_filename`.
    """
    try:
        name = plain_text(raw.replace("\\", "/").rsplit("/", 1)[-1].strip())
    except ValueError as error:
        raise InvalidRequest(f"The file's name is not usable: {error}.", code="invalid_filename") from error
    if not 0 < len(name) <= MAX_FILENAME_LENGTH:
        raise InvalidRequest(
            f"The file's name must have 1 to {MAX_FILENAME_LENGTH} characters.", code="invalid_filename"
        )
    return name


def extension_of(filename: str) -> str:
    """Return a name's extension in lower case, with its dot; empty where it has none."""
    return PurePosixPath(filename).suffix.lower()


def _checked(items: list[tuple[str, UploadFile | str]]) -> tuple[UploadForm, UploadFile]:
    fields: dict[str, str] = {}
    file: UploadFile | None = None
    for name, value in items:
        if isinstance(value, UploadFile):
            if name != "file":
                raise InvalidRequest("Send the file in the field `file`.", code="missing_file")
            file = value
        elif name in fields:
            raise InvalidRequest(f"The field {name[:64]!r} was sent twice.")
        # Forms (Swagger's among them) send a field that was left empty as an empty text.
        elif value or name == "collection":
            fields[name] = value
    if file is None:
        raise InvalidRequest("There is no file; send one in the field `file`.", code="missing_file")
    return _validated(fields), file


def _validated(fields: dict[str, str]) -> UploadForm:
    try:
        return UploadForm.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    code = _CODES.get(name, _CHUNKING if name in ("", *ChunkOptions.model_fields) else "invalid_request")
    raise InvalidRequest(f"{name[:64]}: {words(first)}" if name else words(first), code=code)

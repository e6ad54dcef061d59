"""Which type a file is: an allow-listed extension AND content that agrees with it.

Standard library only and no parser, so the API can use the same gate before it stores a byte.
"""

from embedfleet.contracts.documents import MEDIA_TYPES
from embedfleet.contracts.errors import DocumentProcessingError

HEAD_BYTES = 65_536
PDF_HEADER_WITHIN = 1024

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_ENCRYPTED_OOXML = "EncryptedPackage".encode("utf-16-le")
# Signatures that no text starts with; what is left is for the NUL and control-byte ratios of the text parser.
_BINARY = (
    *_ZIP,
    _OLE,
    b"%PDF-",
    b"\x7fELF",
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"\x1f\x8b\x08",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"SQLite format 3\x00",
    b"{\\rtf",
)


def media_type_of(extension: str) -> str:
    """Return the media type of an allowed extension (with its dot, any case).

    Raises:
        DocumentProcessingError: `unsupported_type`, the extension is not on the list.
    """
    media_type = MEDIA_TYPES.get(extension.lower())
    if media_type is None:
        allowed = ", ".join(sorted(MEDIA_TYPES))
        raise DocumentProcessingError(
            f"Files named {extension or 'without an extension'} are not read; send one of {allowed}.",
            code="unsupported_type",
        )
    return media_type


def check_type(extension: str, head: bytes) -> str:
    """Return the media type that extension and content agree on.

    Args:
        extension: the file name's, with its dot.
        head: the first `HEAD_BYTES` bytes of the file, or all of a shorter one.

    Raises:
        DocumentProcessingError: `unsupported_type`, `empty_file`, or `encrypted` (an Office file
            with a password is no ZIP but an OLE container).
    """
    media_type = media_type_of(extension)
    if not head:
        raise DocumentProcessingError("The file has no bytes; send one with text.", code="empty_file")
    if media_type == "pdf":
        _require(b"%PDF-" in head[:PDF_HEADER_WITHIN], "a PDF", extension)
    elif media_type == "docx":
        _refuse_ole(head)
        _require(head.startswith(_ZIP), "a DOCX", extension)
    else:
        _require(not head.startswith(_BINARY), "text", extension)
    return media_type


def _require(agrees: bool, expected: str, extension: str) -> None:
    if not agrees:
        raise DocumentProcessingError(
            f"The file is named {extension.lower()} but its content is not {expected}; "
            "send it under its true extension.",
            code="unsupported_type",
        )


def _refuse_ole(head: bytes) -> None:
    if not head.startswith(_OLE):
        return
    if _ENCRYPTED_OOXML in head:
        raise DocumentProcessingError(
            "The document is protected by a password; save it without one and send it again.",
            code="encrypted",
        )
    raise DocumentProcessingError(
        "The file is in an older Office format (.doc), or protected by a password; "
        "save it as .docx without a password.",
        code="unsupported_type",
    )

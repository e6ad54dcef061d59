"""Bytes of a text file to characters: BOM, UTF-8, UTF-16 without a BOM, then a guess on a sample."""

import codecs
import re

from embedfleet.contracts.errors import DocumentProcessingError

SAMPLE_BYTES = 32_768
# Of a line that long the sample has this many bytes before the first one beyond ASCII.
_BEFORE_FIRST = 1_024

# Longest first: the BOM of UTF-32-LE starts with that of UTF-16-LE.
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_CONTROL_TEXT = re.compile("[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ufffd\ufffe\uffff]")
_MAX_CONTROL = 0.02
# A wide encoding of mostly Latin text has a NUL in every other byte; nothing else comes near.
_MIN_WIDE_NULS = 0.25
# The escape into JIS X 0208: such a file is seven-bit, so it would pass for UTF-8.
_ISO_2022_JP = b"\x1b$B"
_NON_ASCII = re.compile("[^\x00-\x7f\ufffd]")
# Windows-1258 writes a Vietnamese tone as a byte of its own behind the vowel: grave, hook, tilde, acute, dot.
_TONES_1258 = re.compile(rb"[\xcc\xd2\xde\xec\xf2]")
_TONED_1258 = re.compile(
    rb"[aeiouyAEIOUY\xc2\xca\xd4\xc3\xd5\xdd\xe2\xea\xf4\xe3\xf5\xfd][\xcc\xd2\xde\xec\xf2]"
)
# What is guessed among. Of Latin letters Windows' encodings and ISO's; where Windows' have quotes and dashes,
# ISO's have controls.
_WINDOWS = ("cp1252", "cp1250", "cp1254", "cp1257", "cp1258")
_ISO = ("iso8859-2", "iso8859-15")
_WINDOWS_ALONE = re.compile(rb"[\x80-\x9f]")
_OF_OTHER_LETTERS = (
    *("cp1251", "koi8-r", "koi8-u", "cp866", "iso8859-5", "cp1253", "iso8859-7", "cp1255", "cp1256"),
    *("gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949", "tis-620"),
)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f\s]")
_AMONG_ASCII = re.compile(
    r"(?<=[A-Za-z])[^\x00-\x7f\s]|[^\x00-\x7f\s](?=[A-Za-z])|(?<![^\x00-\x7f])[^\x00-\x7f\s](?![^\x00-\x7f])"
)


def decode(data: bytes) -> str:
    """Return the text of a file, in whatever encoding it is.

    Bytes that are wrong in an otherwise right encoding become U+FFFD.

    Raises:
        DocumentProcessingError: `binary`, the bytes are no text.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _plausible(data[len(bom) :].decode(encoding, "replace"))
    wide = _wide_encoding(data[:SAMPLE_BYTES])
    if wide:
        return _plausible(data.decode(wide, "replace"))
    if _ISO_2022_JP in data[:SAMPLE_BYTES]:
        return _plausible(data.decode("iso2022_jp_ext", "replace"))
    _refuse_binary(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _plausible(data.decode(_guess(data), "replace"))


def _wide_encoding(sample: bytes) -> str | None:
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = max(1, len(sample) // 2)
    if odd / half > 2 * _MIN_WIDE_NULS and even * 20 <= odd:
        return "utf-16-le"
    if even / half > 2 * _MIN_WIDE_NULS and odd * 20 <= even:
        return "utf-16-be"
    return None


def _refuse_binary(data: bytes) -> None:
    sample = data[:SAMPLE_BYTES] + data[len(data) // 2 :][:SAMPLE_BYTES]
    if len(_CONTROL.findall(sample)) > _MAX_CONTROL * len(sample):
        raise _binary()


def _plausible(text: str) -> str:
    sample = text[:SAMPLE_BYTES]
    if len(_CONTROL_TEXT.findall(sample)) > 0.1 * len(sample):
        raise _binary()
    return text


def _binary() -> DocumentProcessingError:
    return DocumentProcessingError(
        "The file is named as text but holds binary data; send the text itself, in UTF-8 if you can.",
        code="binary",
    )


def _guess(data: bytes) -> str:
    start = _start_of_sample(data)
    sample = data[start : start + SAMPLE_BYTES]
    if _mostly_utf8(sample):
        return "utf-8"
    if _is_vietnamese_1258(sample):
        return "cp1258"
    # Lines without such letters say nothing of the encoding, and in code or English are most.
    sample = b"\n".join(line for line in sample.splitlines() if not line.isascii())
    guess = _likeliest(sample, _WINDOWS + _ISO + _OF_OTHER_LETTERS)
    if not _is_latin(sample.decode(guess, "replace")):
        return guess
    return _likeliest(sample, _WINDOWS if _WINDOWS_ALONE.search(sample) else _WINDOWS + _ISO)


def _likeliest(sample: bytes, encodings: tuple[str, ...]) -> str:
    """Return the encoding by which the sample is most like text in a language that is written so."""
    from chardet import detect

    found = detect(sample, include_encodings=encodings, no_match_encoding="cp1252", compat_names=False)
    return found["encoding"] or "cp1252"


def _is_latin(text: str) -> bool:
    """Say whether characters beyond ASCII stand among its letters, or alone, as those of Latin text do.

    That shows even where the bytes were read in a wrong encoding, be it of another alphabet: of a short text
    that is guessed easily.
    """
    return 2 * len(_AMONG_ASCII.findall(text)) >= len(_BEYOND_ASCII.findall(text))


def _start_of_sample(data: bytes) -> int:
    """Return the start of the first line that is not all ASCII, or a place in that line, if it is long."""
    found = re.search(rb"[\x80-\xff]", data)
    if not found:
        return 0
    # All before the first byte above 0x7f are whole characters, in encodings of two bytes, too.
    first = found.start()
    return max(data.rfind(b"\n", 0, first) + 1, first - _BEFORE_FIRST)


def _mostly_utf8(sample: bytes) -> bool:
    text = sample.decode("utf-8", "replace")
    return text.count("\ufffd") * 5 <= len(_NON_ASCII.findall(text))


def _is_vietnamese_1258(sample: bytes) -> bool:
    tones = _TONES_1258.findall(sample)
    toned = len(_TONED_1258.findall(sample))
    return len(set(tones)) >= 3 and toned >= 0.95 * len(tones)

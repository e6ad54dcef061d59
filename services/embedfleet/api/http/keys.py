"""API keys: who is calling, and for which tenant. Only the keys' sha256 is known here."""

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from embedfleet.contracts.documents import TENANT_PATTERN
from embedfleet.contracts.errors import ConfigurationError
from embedfleet.runtime.settings import ApiSettings

DEFAULT_TENANT = "default"
DEFAULT_KEY = "default"


class ApiKey(BaseModel):
    """One key of one tenant; `sha256` is of the key, in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    tenant: str = Field(pattern=TENANT_PATTERN)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


_ENTRIES = TypeAdapter(list[ApiKey])


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys that are known.

    Attributes:
        entries: empty where no key was configured.
        open_to_all: FLEET_AUTH=off was said; without it and without keys only this machine may ask.
    """

    entries: Sequence[ApiKey] = ()
    open_to_all: bool = False

    def find(self, secret: bytes) -> ApiKey | None:
        """Return the entry of a key; the time it takes doesn't tell how much of a guess was right.

        The empty key is nobody's, though an entry may hold its sha256: of a variable that wasn't set.
        """
        digest, found = hashlib.sha256(secret).hexdigest(), None
        for entry in self.entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return found if secret else None


def load_keys(settings: ApiSettings) -> ApiKeys:
    """Read the keys from the settings.

    Raises:
        ConfigurationError: the list can't be read, contradicts FLEET_AUTH, or nothing protects a
            server that is bound wider than the loopback address. No value is ever quoted.
    """
    text, source = _configured(settings)
    if not source:
        _check_bind(settings)
        return ApiKeys(open_to_all=settings.auth == "off")
    if settings.auth == "off":
        raise ConfigurationError(f"{source} is set and FLEET_AUTH is off; unset one of the two")
    entries = _parse(text, source)
    if not entries:
        raise ConfigurationError(f"{source} is a list without keys; add one, or unset it")
    if len({entry.sha256 for entry in entries}) < len(entries):
        raise ConfigurationError(f"{source} has the same key twice; every sha256 must differ")
    return ApiKeys(entries)


def is_loopback(host: str) -> bool:
    """Say whether a host name or address means this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _configured(settings: ApiSettings) -> tuple[str, str]:
    """Return the JSON text and the variable that it comes from; both empty where there is none."""
    inline = settings.api_keys.get_secret_value()
    if settings.api_keys_file is None:
        return inline, "FLEET_API_KEYS" if inline else ""
    if inline:
        raise ConfigurationError("FLEET_API_KEYS and FLEET_API_KEYS_FILE are both set; unset one of them")
    try:
        return settings.api_keys_file.read_text("utf-8"), "FLEET_API_KEYS_FILE"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"FLEET_API_KEYS_FILE names a file that can't be read ({type(error).__name__})"
        ) from error


def _parse(text: str, source: str) -> list[ApiKey]:
    try:
        return _ENTRIES.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the list"
    # Raised outside the handler: the validation error would carry the value into a traceback.
    raise ConfigurationError(
        f'{source} must be a JSON list of {{"name","tenant","sha256"}} with the sha256 of each key in'
        f" lower-case hex; wrong at: {place}"
    )


def _check_bind(settings: ApiSettings) -> None:
    if settings.auth == "off" or is_loopback(settings.host):
        return
    raise ConfigurationError(
        f"FLEET_HOST is {settings.host}, which others can reach, and no API key is configured: set"
        " FLEET_API_KEYS or FLEET_API_KEYS_FILE, bind to 127.0.0.1, or say FLEET_AUTH=off to let everyone in"
    )

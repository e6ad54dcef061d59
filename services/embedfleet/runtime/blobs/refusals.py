"""What an error of obstore means, and what to do about it.

Its text is all that it tells, and may hold a signed address: it is searched here, and never shown.
"""

import re

_NO_BUCKET = re.compile("<Code>(NoSuchBucket|ContainerNotFound)</Code>")
# The first that fits.
_REASONS = (
    (_NO_BUCKET, "there is no such bucket; create it, or correct FLEET_BLOB_URL"),
    (
        re.compile("/latest/api/token|security-credentials|computeMetadata|/metadata/identity|TokenRequest"),
        "no credentials are found; set the store's variables, or give the pod an identity",
    ),
    (
        re.compile(
            "<Code>(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|AuthenticationFailed)</"
        ),
        "it doesn't take these credentials; correct or renew them",
    ),
    (
        re.compile("<Code>(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint)"),
        "the bucket is in another region; correct AWS_REGION",
    ),
    (
        re.compile("^(PermissionDenied|Unauthenticated)Error|<Code>AccessDenied</|status(?: code)?: 40[13]"),
        "these credentials may not do that; they need to read, write, delete and list",
    ),
    (re.compile("kind: Timeout"), "no answer in time"),
    (re.compile("kind: Connect"), "no connection; is the network open, and the endpoint's variable right?"),
)
_VARIABLES = {"s3": "an AWS_…", "gs": "a GOOGLE_…", "az": "an AZURE_…"}
_STATUS = re.compile(r"status(?: code)?: (\d{3})")


def is_no_bucket(error: Exception) -> bool:
    """Say whether what isn't there is the bucket, not a blob in it."""
    return bool(_NO_BUCKET.search(str(error)))


def is_past_the_end(error: Exception) -> bool:
    """Say whether a read began where a blob ends: the first byte of one that is empty."""
    return (found := _STATUS.search(str(error))) is not None and found.group(1) == "416"


def reason_of_start(scheme: str, error: Exception) -> str:
    """Return why a store can't be addressed at all."""
    if "Account must be specified" in str(error):
        return "AZURE_STORAGE_ACCOUNT_NAME is not set"
    return f"{_VARIABLES[scheme]} variable has a value that can't be used"


def reason_of(error: Exception) -> str:
    """Return what keeps a request from being served, for `DependencyDown`."""
    text = f"{type(error).__name__}: {error}"
    for pattern, reason in _REASONS:
        if pattern.search(text):
            return reason
    status = _STATUS.search(text)
    return f"it answers {status.group(1)}" if status else "the request broke off"

"""Where everything is kept in the blobs.

==========================================================  =================================================
``uploads/<tenant>/<document>/<task><extension>``           the file as it was uploaded
``pending/<task>``                                          accepted and not ended: the janitor's list
``documents/<tenant>/<document>.json``                      the record of a document that search shows
``chunks/<tenant>/<document>/<generation>/<part>``          chunk file of one embedding task
``revoked/<task>``                                          revoked, and Redis may not have it on disk yet
``handed_back/<task>.<fence>.<run>``                        a run that ended, and Redis may not know it
``deleted/<tenant>/<collection>/<document>/<generation>``   a tombstone: what the janitor still has to remove
==========================================================  =================================================
"""

from embedfleet.contracts.documents import Document


def upload_key(tenant: str, document_id: str, task_id: str, extension: str) -> str:
    """Return where an uploaded file is kept; the extension has its dot."""
    return f"uploads/{tenant}/{document_id}/{task_id}{extension}"


def pending_key(task_id: str) -> str:
    """Return where the manifest of an accepted, unfinished upload is kept."""
    return f"pending/{task_id}"


def revoked_key(task_id: str) -> str:
    """Return where it is noted that an upload was revoked."""
    return f"revoked/{task_id}"


def handed_back_key(task_id: str, fence: int, owner: str) -> str:
    """Return where it is noted that a run has ended, and Redis may not know it yet.

    Each run has a note of its own; the version before kept one a task, without the fence.
    """
    return f"handed_back/{task_id}.{fence}.{owner.rpartition(':')[2]}"


def upload_folder(tenant: str, document_id: str) -> str:
    """Return the folder of all uploaded files of a document."""
    return f"uploads/{tenant}/{document_id}"


def task_of_upload(key: str) -> str:
    """Return the task that an uploaded file belongs to."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


def record_key(tenant: str, document_id: str) -> str:
    """Return where the durable copy of a document's record is kept."""
    return f"documents/{tenant}/{document_id}.json"


def chunk_folder(document: Document) -> str:
    """Return the folder of the chunk files of all generations of a document."""
    return f"chunks/{document.tenant}/{document.id}"


def chunk_prefix(document: Document) -> str:
    """Return the folder of a generation's chunk files."""
    return f"{chunk_folder(document)}/{document.generation}"

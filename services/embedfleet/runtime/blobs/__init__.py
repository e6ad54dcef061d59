"""Blobs: uploaded files, chunk files and durable records, where api and workers share them."""

from embedfleet.runtime.blobs.blobs import Blobs, open_blobs
from embedfleet.runtime.blobs.folder import sync_folder
from embedfleet.runtime.blobs.keys import (
    chunk_folder,
    chunk_prefix,
    handed_back_key,
    pending_key,
    record_key,
    revoked_key,
    task_of_upload,
    upload_folder,
    upload_key,
)

__all__ = [
    "Blobs",
    "chunk_folder",
    "chunk_prefix",
    "handed_back_key",
    "open_blobs",
    "pending_key",
    "record_key",
    "revoked_key",
    "sync_folder",
    "task_of_upload",
    "upload_folder",
    "upload_key",
]

"""The whole path, upload to searchable, against the plain design."""

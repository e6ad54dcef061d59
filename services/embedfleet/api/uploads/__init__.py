"""What comes with an upload, checked before anything is stored."""

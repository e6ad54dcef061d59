"""Chunks to vectors. Never imports pypdf, docx or fastapi."""

"""Texts to vectors: find a model's files, cut text into its tokens, run it."""

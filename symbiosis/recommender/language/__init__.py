"""Corpus, prompts and item texts."""

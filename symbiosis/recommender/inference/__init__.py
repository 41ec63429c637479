"""Scoring, free-text requests and written reasons."""

"""Interactions, ratings and the catalogue of items."""

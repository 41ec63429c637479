"""Stages side by side: who runs them, how many at a time, and how they end with the flow that asked for them."""

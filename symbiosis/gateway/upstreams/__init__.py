"""Calls to the LLMs: bytes passed on as they come, failures, circuits, what was observed."""

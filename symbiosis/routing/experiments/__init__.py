"""The router measured: replay, comparison, feedback, new LLMs."""

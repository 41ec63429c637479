"""Simulated upstreams: an OpenAI-compatible server that plays the LLMs of the routing table, and a small real LLM."""

"""Routing queries to LLMs as a contextual bandit."""

"""Symbiosis: recommender systems and language models help each other."""

"""Simple recommenders that the language model is compared with."""

"""Ranking the best candidates again: links between items, terms and features of candidates, what learns from them."""

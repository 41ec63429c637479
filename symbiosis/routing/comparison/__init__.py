"""Routers compared: the same queries, splits, vectors and tuning for all."""

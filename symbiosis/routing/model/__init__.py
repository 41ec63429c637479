"""Predictors of quality and response length, and the router that holds them."""

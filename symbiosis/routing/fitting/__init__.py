"""Fit the router: choose its form by cross-validation, penalties from the table, and learn."""

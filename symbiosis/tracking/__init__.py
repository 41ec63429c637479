"""Runs recorded in MLflow: live curves while a stage trains, whole pipeline states afterwards."""

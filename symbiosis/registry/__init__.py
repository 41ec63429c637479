"""Models in MLflow's registry, and the champions that serve: registered, judged, promoted, taken back."""

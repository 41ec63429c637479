"""Scripts that MLflow runs to load a registered model: no model is pickled."""

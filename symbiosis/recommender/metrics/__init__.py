"""Rankings and their metrics."""

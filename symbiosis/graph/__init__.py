"""The user-item graph: construction, hop distances and connectivity scores."""

"""Learning from feedback, adding LLMs, off-policy estimates."""

"""The loop: what runs by itself, from new feedback and data to the model that serves."""

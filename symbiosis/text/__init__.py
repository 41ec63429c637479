"""From a text to a vector, for items and queries alike."""

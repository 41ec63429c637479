"""From a query to its vector and its tags."""

"""The recommender in a gateway's process."""

"""The graph-attentive GPT-2 recommender, its baselines and their evaluation."""

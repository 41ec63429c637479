"""The graph-attentive GPT-2 and its graph terms."""

"""From predictions to one LLM: score, objectives, exploration, explanation."""

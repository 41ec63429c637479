"""The gateway's service: its endpoints, decisions, learner and processes."""

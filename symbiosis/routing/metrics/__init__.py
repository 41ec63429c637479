"""Quality against cost: curves, utility, summary numbers."""

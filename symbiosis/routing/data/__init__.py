"""The routing table: sources, cleaning, splits, prices, outcomes."""

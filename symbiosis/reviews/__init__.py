"""Amazon reviews: sources, cleaning, splits."""

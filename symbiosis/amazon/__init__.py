"""Amazon reviews: sources, cleaning, splits and data quality."""

"""What both halves print: pages, data quality, the summary of results."""

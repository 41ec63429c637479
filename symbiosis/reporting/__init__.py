"""What both halves report with: pages, charts, data quality, the summary of results."""

"""What the gateway tells about itself: metrics, traces, summaries, reports, drift."""

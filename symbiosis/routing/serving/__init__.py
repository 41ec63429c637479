"""The router as a service: decisions, journal, snapshots."""

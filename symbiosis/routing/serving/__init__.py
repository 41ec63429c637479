"""The router as a service: decisions, store, snapshots."""

"""The pages of the routing reports."""

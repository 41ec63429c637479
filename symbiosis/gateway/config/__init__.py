"""The file gateway.yaml: its blocks, how it is read, and what is checked."""

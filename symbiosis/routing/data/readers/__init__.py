"""Files that people have, each kind to a long table."""

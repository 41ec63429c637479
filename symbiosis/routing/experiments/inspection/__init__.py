"""What a routing table holds, what it lacks, and how much can be learned from it, before any stage has run."""

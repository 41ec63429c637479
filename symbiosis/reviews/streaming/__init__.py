"""Reviews to interactions in bounded memory: on disk by partitions, whatever their number."""

"""A stream of queries with arrivals, queues, waits and failures."""

"""What a long run does to the router and to the gateway: ``python -m bench.soak decisions|gateway``."""

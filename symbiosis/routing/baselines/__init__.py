"""Ways of choosing an LLM that the router is compared with."""

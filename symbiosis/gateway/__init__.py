"""The gateway: one OpenAI-compatible address that routes, explains and learns."""

"""The page that shows what the gateway does: spend, LLMs, decisions, and a prompt box."""

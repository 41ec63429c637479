"""The command `symbiosis`: what a user asks for, parsed and printed."""

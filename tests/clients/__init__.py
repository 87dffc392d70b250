"""Clients in other languages, and what is generated from the contract for them, before the real Envoy."""

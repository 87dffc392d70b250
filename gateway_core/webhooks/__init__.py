"""Webhooks: what happens to an account, told to an endpoint of its own; kept until it has been told."""

"""What processes share in a Redis or Valkey server; nothing else in the core knows the client."""

"""The part of the configuration that says how an Envoy in front is set up."""

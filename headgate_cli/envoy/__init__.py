"""`headgate envoy`: the configuration of an Envoy in front, made of the one config file."""

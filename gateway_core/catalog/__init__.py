"""What can be asked: the models of the configuration and those that the providers list."""

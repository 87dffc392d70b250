"""The way to providers: the only code that knows the HTTP library of the hot path."""

"""The services of the contract, one file each: the only code that sees a gRPC context."""

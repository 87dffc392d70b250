"""The gRPC server: answers the contract by asking model providers."""

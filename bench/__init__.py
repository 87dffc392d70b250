"""The benchmark: what a gateway costs per request and per streamed event, beside a plain Envoy in the same run."""

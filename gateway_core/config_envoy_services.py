"""The part of the configuration that says what the core answers to an Envoy in front, beside calls."""

from ipaddress import IPv4Network, IPv6Network

from pydantic import IPvAnyNetwork

from gateway_core.config_part import Part

PRIVATE: tuple[IPv4Network | IPv6Network, ...] = (
    *(IPv4Network(network) for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    *(IPv6Network(network) for network in ("::1/128", "fc00::/7")),
)
"""This machine, and private networks (RFC 1918, RFC 4193)."""


class EnvoyServicesConfig(Part):
    """What an Envoy in front may ask at the gRPC port before it lets a request through."""

    authorization: bool = False
    """Whether envoy.service.auth.v3.Authorization answers: who may not call is refused there."""
    rate_limit: bool = False
    """Whether envoy.service.ratelimit.v3.RateLimitService answers: whose limits are reached is refused there."""
    allowed: tuple[IPvAnyNetwork, ...] = PRIVATE
    """Networks that may ask, as the core sees the connection; others get PERMISSION_DENIED."""

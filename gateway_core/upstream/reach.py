"""Which addresses may be dialled where a caller chose the URL: public ones, and those of networks that are named."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NAT64 = IPv6Network("64:ff9b::/96")
# All that is public is in it: https://www.iana.org/assignments/ipv6-address-space. Outside are translators of a
# network's own (64:ff9b:1::/48), site-local and IPv4-compatible addresses: Python takes some of them for public.
PUBLIC = IPv6Network("2000::/3")
# In it, and nowhere to be dialled: documentation (RFC 9637), and tunnels to addresses that they hide (RFC 4380).
SPECIAL = (IPv6Network("3fff::/20"), IPv6Network("2001::/32"))
# Public by its number, and yet the metadata of a machine:
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
AZURE = IPv4Address("168.63.129.16")


class OutOfReach(OSError):
    """No address of a host may be dialled."""


class Reach:
    """Public addresses, and some networks."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        """Takes networks that are not public and may be dialled all the same."""
        self._networks = tuple(networks)

    def has(self, text: str) -> bool:
        """Whether an address may be dialled, as the system writes it; false where it is none."""
        try:
            address = unwrapped(ip_address(text.partition("%")[0]))
        except ValueError:
            return False
        if any(address in network for network in self._networks):
            return True
        if isinstance(address, IPv6Address) and (address not in PUBLIC or any(address in each for each in SPECIAL)):
            return False
        return address.is_global and not address.is_multicast and address != AZURE

    def refuses(self, host: str) -> bool:
        """Whether a host can be refused by its name alone, before anybody is asked for its addresses."""
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            name = host.rstrip(".").lower()
            return (name == "localhost" or name.endswith(".localhost")) and not self.has("127.0.0.1")
        return not self.has(host)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to; any other as it is."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address

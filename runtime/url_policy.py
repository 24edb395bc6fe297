"""Where a URL may lead: into the internet, and to what the settings allow beside it. Judged by the
address that is connected to, so that neither a name, a redirect nor a notation leads around it."""

import dataclasses
import errno
import ipaddress
import socket
import urllib.parse
from collections.abc import Sequence
from typing import Any, Final

from service.runtime.settings import SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""Where networks without IPv4 show its addresses (RFC 6052)."""

AddressInfo = tuple[socket.AddressFamily | int, socket.SocketKind | int, int, str, tuple[Any, ...]]
"""One answer of ``getaddrinfo``."""


@dataclasses.dataclass(frozen=True)
class Allowed:
    """``[downloads] allowed_hosts``: hosts, with a port or for every port, and networks."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[Network, ...] = ()

    def names(self, host: str, port: int | None) -> bool:
        """Whether this host is allowed by its name, whatever its address is."""
        return not self.hosts.isdisjoint({(_plain_host(host), port), (_plain_host(host), None)})

    def holds(self, address: Address) -> bool:
        """Whether an allowed network has the address."""
        return any(address in network for network in self.networks)


def allowed_hosts(entries: Sequence[str]) -> Allowed:
    """Such as ``prowlarr``, ``jackett:9117``, ``192.168.1.5``, ``[fd00::5]:9117``,
    ``192.168.1.0/24``. Raises SettingsError."""
    hosts, networks = set(), []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            hosts.add(_host_and_port(entry))
    return Allowed(frozenset(hosts), tuple(networks))


def _host_and_port(entry: str) -> tuple[str, int | None]:
    try:
        parts = urllib.parse.urlsplit(f"//{entry}")
        if parts.hostname and parts.netloc == entry and "@" not in entry and entry.isprintable():
            return _plain_host(parts.hostname), parts.port
    except ValueError:
        pass
    raise SettingsError(
        f"settings: downloads.allowed_hosts: {entry!r} is no host, address or network: "
        "say prowlarr, prowlarr:9696, 192.168.1.5 or 192.168.1.0/24"
    )


def _plain_host(host: str) -> str:
    return host.lower().rstrip(".")


class Gate:
    """Opens sockets for one URL's host; ``refused`` says why it did not open one."""

    def __init__(self, allowed: Allowed, host: str, port: int | None) -> None:
        self._allowed = allowed
        self._is_named = allowed.names(host, port)
        self.refused: str | None = None

    def socket(self, info: AddressInfo) -> socket.socket:
        """A socket to be connected to the address. Raises OSError where that may not be."""
        family, kind, protocol, _, place = info
        why = None if self._is_named else self._why_not(str(place[0]))
        if why:
            self.refused = why
            raise OSError(errno.EACCES, why)
        return socket.socket(family, kind, protocol)

    def _why_not(self, text: str) -> str | None:
        try:
            address = _meant(ipaddress.ip_address(text))
        except ValueError:
            return "is no plain address"
        if self._allowed.holds(address):
            return None
        if _is_own(address):
            return "is this machine"
        return None if is_public(address) else "is not in the internet"


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether the address is one of a single machine in the internet."""
    odd = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not odd and not getattr(address, "is_site_local", False)


def _is_own(address: Address) -> bool:
    """Whether this machine has the address, be it a public one: only then can it be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True

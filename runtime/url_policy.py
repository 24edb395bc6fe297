"""Decide which addresses a URL may use: public ones, and those that the settings allow.

The check applies to the address of each connection, so no DNS name, redirect or unusual notation
bypasses it.
"""

import dataclasses
import errno
import ipaddress
import socket
import urllib.parse
from collections.abc import Sequence
from typing import Any, Final

from mediabus.runtime.settings import SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""The prefix under which IPv6-only networks reach IPv4 addresses (RFC 6052)."""

AddressInfo = tuple[socket.AddressFamily | int, socket.SocketKind | int, int, str, tuple[Any, ...]]
"""One result of ``getaddrinfo``."""


@dataclasses.dataclass(frozen=True)
class Allowed:
    """A parsed setting ``allowed_hosts``: networks, and hosts with one port or any port."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()
    networks: tuple[Network, ...] = ()

    def names(self, host: str, port: int | None) -> bool:
        """Return whether this host is allowed by name, regardless of its address."""
        return not self.hosts.isdisjoint({(_plain_host(host), port), (_plain_host(host), None)})

    def holds(self, address: Address) -> bool:
        """Return whether the address is in an allowed network."""
        return any(address in network for network in self.networks)


def allowed_hosts(entries: Sequence[str], *, setting: str = "downloads.allowed_hosts") -> Allowed:
    """Parse the hosts and networks of ``setting``.

    Examples: ``prowlarr``, ``jackett:9117``, ``192.168.1.5``, ``[fd00::5]:9117``,
    ``192.168.1.0/24``.

    Raises:
        SettingsError: an entry is neither.
    """
    hosts, networks = set(), []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            hosts.add(_host_and_port(entry, setting))
    return Allowed(frozenset(hosts), tuple(networks))


def _host_and_port(entry: str, setting: str) -> tuple[str, int | None]:
    try:
        parts = urllib.parse.urlsplit(f"//{entry}")
        if parts.hostname and parts.netloc == entry and "@" not in entry and entry.isprintable():
            return _plain_host(parts.hostname), parts.port
    except ValueError:
        pass
    raise SettingsError(
        f"settings: {setting}: {entry!r} is not a host, address or network. "
        "Use, for example, prowlarr, prowlarr:9696, 192.168.1.5 or 192.168.1.0/24"
    )


def _plain_host(host: str) -> str:
    return host.lower().rstrip(".")


class Gate:
    """Opens sockets for the host of one URL. ``refused`` is the cause if it did not open one."""

    def __init__(self, allowed: Allowed, host: str, port: int | None) -> None:
        self._allowed = allowed
        self._is_named = allowed.names(host, port)
        self.refused: str | None = None

    def socket(self, info: AddressInfo) -> socket.socket:
        """Open a socket for a connection to the address.

        Raises:
            OSError: the address is not allowed.
        """
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
            return "is not a plain address"
        if self._allowed.holds(address):
            return None
        if _is_own(address):
            return "is this machine"
        return None if is_public(address) else "is not a public address"


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address embeds, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Return whether the address is a public unicast address."""
    odd = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not odd and not getattr(address, "is_site_local", False)


def _is_own(address: Address) -> bool:
    """Return whether this machine has the address, which it can bind only then."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True

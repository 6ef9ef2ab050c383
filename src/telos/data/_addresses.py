"""Which machines a URL of a data set may lead to: public ones, and those that the settings name.

A URL may come from somewhere else, and the machine that reads it may see more of the network than its author
does: services of its own, other machines behind the same wall, and the address at which clouds hand out
credentials. So a name is looked up once, all its addresses are judged, and the connection is made to one of
them; what is looked up later is not asked (Server-Side Request Forgery, OWASP).
"""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import SplitResult

from telos.errors import DataError

__all__ = ["addresses", "is_public", "shown"]

_EMBEDDING = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, RFC 4291
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
)
"""Networks whose addresses hold one of IPv4, and how many bits stand after it."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's, and no private, local, shared, multicast or reserved one;
    of an address of IPv6 that leads to one of IPv4, whether that one is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or (found.teredo and found.teredo[1])
        for network, after in _EMBEDDING:
            if not inner and found in network:
                inner = ipaddress.IPv4Address(int(found) >> after & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast and not found.is_reserved


def addresses(url: SplitResult, allowed: Collection[str]) -> list[tuple[str, int]]:
    """The addresses that a URL's host has, and its port, if it may be reached at all.

    `allowed`: hosts with their ports, as `127.0.0.1:8000`, that may be anything and speak plain HTTP.

    Raises:
        DataError: it may not, or there is no such host.
    """
    if url.scheme not in ("https", "http"):
        raise DataError(f"{shown(url)}: only https is read here.")
    host, port = _host_and_port(url)
    free = f"{host}:{port}" in allowed or f"[{host}]:{port}" in allowed
    if url.scheme != "https" and not (free and url.scheme == "http"):
        raise DataError(
            f"{shown(url)}: only https is read, and http of hosts that are named: "
            f'data.remote.allow_hosts=["{host}:{port}"]'
        )
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{shown(url)}: there is no host {host!r}: {error}.") from None
    every = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not free and not all(map(is_public, every)):
        raise DataError(
            f"{shown(url)}: {host} is on a private network ({', '.join(every)}), where data may not "
            f'come from unless it is named: data.remote.allow_hosts=["{host}:{port}"]'
        )
    return [(address, port) for address in every]


def _host_and_port(url: SplitResult) -> tuple[str, int]:
    if url.username is not None or url.password is not None:
        raise DataError(
            f"{shown(url)}: no name and password in a URL: it is written into the run's folder. Fetch the "
            "file yourself, or use s3:// or gs://, which take credentials from your own settings."
        )
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise DataError(f"{shown(url)}: the port is not a number up to 65535.") from None
    if not url.hostname:
        raise DataError(f"{shown(url)}: there is no host in this URL.")
    return url.hostname, port


def shown(url: SplitResult) -> str:
    """A URL as it may be printed: without a name, a password, and what follows `?` or `#`."""
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}{url.path}{'?…' if url.query else ''}"

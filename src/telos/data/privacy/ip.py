"""Addresses of the Internet, IPv4 and IPv6, public and private.

Not found are those that point at nobody: this host, multicast, masks, and the ranges for documentation (RFC
5737, RFC 3849); nor numbers of versions and sections that look like an IPv4 address.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import ClassVar, final

from telos.data.privacy._base import Kind, Span
from telos.data.privacy._view import View

__all__ = ["Ip"]

_IN_V4 = re.compile(rb"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_V4 = re.compile(
    r"(?<![0-9A-Za-z_.])(?<![A-Za-z0-9]-)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_]|-[A-Za-z]|\.[0-9A-Za-z])"
)
_IN_V6 = re.compile(rb":[0-9A-Fa-f]{0,4}:")
_V6 = re.compile(r"(?<![0-9A-Za-z_:.])[0-9A-Fa-f:.]{4,45}(?![0-9A-Za-z_:])")
_DOCUMENTATION = [
    ipaddress.ip_network(net)
    for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
]
_PERSONAL_V6 = [ipaddress.ip_network(net) for net in ("2000::/3", "fc00::/7", "fe80::/10")]
_VERSION = re.compile(
    r"(?:(?<![a-z])(?:versions?|ver|v|release|build|firmware|driver|section|sections|sec|chapter|figure|fig|table|rfc"
    r"|appendix|clause|upgrade to|oid)|版本|固件|章节|第|§|[=~^><]=?)[ .:：]{0,3}$"
)
_ADDRESS = re.compile(
    r"(?<![a-z])(?:ips?|ipv4|address|host|server|from|client|ping|connect|dns|gateway|router|subnet|proxy|login|peer|ssh"
    r"|inet|addr|remote|source)(?![a-z])|地址|服务器|主机|网关|登录|来自|://|@"
)


@final
class Ip(Kind):
    """An address of a machine."""

    priority: ClassVar[int] = 10

    def spans(self, view: View) -> Iterator[Span]:
        """See `Kind.spans`."""
        yield from sorted({*_looked_at(view, _IN_V4, _V4, 4, 16), *_looked_at(view, _IN_V6, _V6, 45, 45)})

    def same(self, found: str) -> str:
        """The address as its standard writes it."""
        return str(ipaddress.ip_address(found))

    def stand_in(self, found: str, number: int) -> str:
        """One of the ranges for documentation."""
        if ":" in found:
            return f"2001:db8::{number // 65536 % 65536:x}:{number % 65536:x}"
        return f"{('192.0.2', '198.51.100', '203.0.113')[number // 256 % 3]}.{number % 256}"


def _looked_at(
    view: View, sign: re.Pattern[bytes], pattern: re.Pattern[str], back: int, ahead: int
) -> Iterator[Span]:
    """Addresses about each place where `sign` is found in the bytes."""
    done = 0
    place = 0
    while hint := sign.search(view.bytes, place):
        place = max(hint.start() + 1, done)
        found = pattern.search(view.text, max(done, hint.start() - back), hint.start() + ahead + 2)
        while found and found.end() <= hint.start():
            found = pattern.search(view.text, found.end(), hint.start() + ahead + 2)
        if found and found.start() <= hint.start():
            done = place = found.end()
            if (end := _end_of_address(view, found)) > found.start():
                yield found.start(), end


def _end_of_address(view: View, found: re.Match[str]) -> int:
    """Where the address ends; 0 if it is none of a machine."""
    text = found[0].rstrip(".") if ":" in found[0] else found[0]
    text = text[:-1] if text.endswith(":") and not text.endswith("::") else text
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0
    if any(address in network for network in _DOCUMENTATION):
        return 0
    if isinstance(address, ipaddress.IPv6Address):
        good = any(address in network for network in _PERSONAL_V6)
    else:
        good = _points_at_someone(address) and not _is_version(view, found.start(), text)
    return found.start() + len(text) if good else 0


def _points_at_someone(address: ipaddress.IPv4Address) -> bool:
    first = int(address) >> 24
    return 0 < first < 224 and first != 127


def _is_version(view: View, begin: int, text: str) -> bool:
    """Whether a word says so, or all four numbers are small and no word speaks of an address."""
    before = view.before(begin)
    if _VERSION.search(before):
        return True
    return all(int(part) < 20 for part in text.split(".")) and not _ADDRESS.search(before)

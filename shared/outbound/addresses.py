"""Addresses that outbound messages may go to: protection against SSRF.

A URL is checked when it is registered, and each address again when the socket connects, because the
name may resolve to another address by then (DNS rebinding).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

URL_LENGTH_MAX = 2000
PORT_MAX = 65535

# Only plain forms: no user, no percent signs and no letters beyond ASCII in the host, no fragment.
# Forms that two parsers could read differently are refused.
_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:[/?][!\"$-;=?-\[\]-_a-~%]*)?"
)
# A host whose last label is a number is an IPv4 address in some form (as WHATWG's URL has it).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

# https://www.iana.org/assignments/iana-ipv4-special-registry, and the metadata addresses of clouds.
_V4_REFUSED = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's metadata
        "169.254.0.0/16",  # link-local, with the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Of IPv6 only global unicast is allowed, which excludes ::1, unique local, link-local, multicast,
# IPv4-mapped and NAT64 addresses. Refused within it:
_V6_GLOBAL = IPv6Network("2000::/3")
_V6_REFUSED = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)


def is_public(address: str) -> bool:
    """Whether this is a globally reachable IP address; never raises."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _V4_REFUSED)
    return ip in _V6_GLOBAL and not any(ip in network for network in _V6_REFUSED)


def fault_of_url(url: str, *, allow_private: bool) -> str | None:
    """Return why this URL is refused; None: it is allowed.

    `allow_private` allows http and addresses that are not public. Unusual forms are never allowed.
    """
    match = _URL.fullmatch(url)
    if match is None or len(url) > URL_LENGTH_MAX or int(match["port"] or 1) not in _PORTS:
        return (
            f"a plain https:// address of at most {URL_LENGTH_MAX} ASCII characters, without user, "
            "password and #"
        )
    if match["scheme"] != "https" and not allow_private:
        return "https:// is required"
    literal = match["v6"] or _ipv4_form(match["name"])
    if literal is None:
        return None
    if _ip(literal) is None:
        return f"{literal} is no usual form of an IP address"
    if not allow_private and not is_public(literal):
        return f"{literal} is not a public address"
    return None


_PORTS = range(1, PORT_MAX + 1)


def _ipv4_form(host: str) -> str | None:
    """Return a host that a resolver could read as an IPv4 address; None for a name."""
    return host if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) else None


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None

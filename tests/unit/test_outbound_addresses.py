"""Which addresses a message may go to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.outbound.addresses import fault_of_url, is_public

INTERNAL = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
internal = st.sampled_from(INTERNAL).flatmap(lambda network: st.ip_addresses(network=network))
v4 = st.ip_addresses(v=4)
v6 = st.ip_addresses(v=6)


@given(address=internal)
def test_an_internal_address_is_not_public_in_any_form_that_carries_it(
    address: IPv4Address | IPv6Address,
) -> None:
    number = int(address)
    carried = [
        IPv6Address(number),  # IPv4-compatible
        IPv6Address(0xFFFF << 32 | number),  # IPv4-mapped
        IPv6Address((0x64FF9B << 96) | number),  # NAT64
        IPv6Address(int(IPv6Address("64:ff9b:1::")) | number),  # local NAT64
        IPv6Address(0x2002 << 112 | number << 80),  # 6to4
        IPv6Address(0x2001 << 112 | number ^ 0xFFFFFFFF),  # Teredo
    ]
    assert not is_public(str(address))
    assert not any(is_public(str(form)) for form in carried)


@given(address=v4)
def test_no_ipv4_address_is_taken_inside_an_ipv6_one(
    address: IPv4Address | IPv6Address,
) -> None:
    assert not is_public(f"::ffff:{address}")
    assert not is_public(f"64:ff9b::{address}")


@given(address=st.one_of(v4, v6))
def test_what_the_standard_library_calls_internal_is_never_public(
    address: IPv4Address | IPv6Address,
) -> None:
    internal = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or not address.is_global
    )
    assert not (internal and is_public(str(address)))


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("fd00:ec2::254", "fe80::1", "fe80::1%eth0", "::1", "::", "fec0::1", "ff02::1", "fc00::1"),
        *("255.255.255.255", "localhost", "", "1.2.3", "2130706433", "0x7f000001"),
        *("2001:db8::1", "3fff::1", "100::1", "5f00::1"),
    ],
)
def test_addresses_of_metadata_and_machines_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0"),
        *("223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1"),
    ],
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@given(address=st.ip_addresses(v=4, network=IPv4Network("127.0.0.0/8")), data=st.data())
def test_odd_forms_of_an_address_are_refused_with_and_without_the_permission(
    address: IPv4Address, data: st.DataObject
) -> None:
    number = int(address)
    a, b, c, d = address.packed
    forms = [
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.{b}.{c}.{d}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a}.{b}.{c}.{d:#x}",
        f"{a}.{b}.{c}.00{d:o}",
        f"{address}.",
        f"{a}.{b}.{c}.{d}.0",
        "0x",
    ]
    form = data.draw(st.sampled_from(forms))
    for allow_private in (False, True):
        assert fault_of_url(f"https://{form}/x", allow_private=allow_private) is not None
        assert fault_of_url(f"https://{form}:8443", allow_private=allow_private) is not None


@given(address=st.one_of(v4, v6))
def test_an_address_in_a_url_is_taken_where_it_is_public_or_permitted(
    address: IPv4Address | IPv6Address,
) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    fault = fault_of_url(f"https://{host}/hooks", allow_private=False)
    assert (fault is None) == is_public(str(address))
    assert fault_of_url(f"https://{host}/hooks", allow_private=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hooks?tenant=1&x=%20",
        "https://xn--bcher-kva.example/",
        "https://a_b.example.com./x",
        "https://example.com:1/",
        "https://0x.example.com",
        "https://1.1.1.1.example.com",
        "https://example.com?x",
    ],
)
def test_a_plain_https_address_is_taken(url: str) -> None:
    assert fault_of_url(url, allow_private=False) is None


@pytest.mark.parametrize("url", ["http://example.com", "http://127.0.0.1:8000/x"])
def test_http_needs_the_permission(url: str) -> None:
    assert fault_of_url(url, allow_private=False) == "https:// is required"
    assert fault_of_url(url, allow_private=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "HTTPS://example.com",
        "https://",
        "https:///x",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com@127.0.0.1",
        "https://example.com\\@127.0.0.1",
        "https://example.com#x",
        "https://example.com/\\..",
        "https://example.com/ x",
        "https://example.com/\n",
        "https://example.com\n",
        " https://example.com",
        "https://example.com/ä",
        "https://bücher.example",
        "https://\uff11\uff12\uff17.0.0.1",
        "https://%31%32%37.0.0.1",
        "https://[::1%25eth0]",
        "https://[fe80::1%eth0]/",
        "https://[::ffff:127.0.0.1",
        "https://[1.2.3.4]x",
        "https://[:::]",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:",
        "https://example.com:x",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_never_taken(url: str) -> None:
    assert fault_of_url(url, allow_private=False) is not None
    assert fault_of_url(url, allow_private=True) is not None


@given(text=st.text())
def test_a_check_never_raises(text: str) -> None:
    is_public(text)
    fault_of_url(text, allow_private=False)
    fault_of_url(f"https://{text}", allow_private=True)
    try:
        ip_address(text)
    except ValueError:
        assert not is_public(text)

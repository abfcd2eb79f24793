"""Addresses: what is taken, and what is said about the rest."""

from __future__ import annotations

import pytest

from fedmedlora.provision.address import Address, check_host, check_proxy, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("coordinator.example:8000", "coordinator.example", 8000),
        ("c:1", "c", 1),
        ("192.0.2.7:65535", "192.0.2.7", 65535),
        ("[2001:db8::7]:443", "2001:db8::7", 443),
        ("[2001:0db8::0007]:443", "2001:db8::7", 443),
    ],
)
def test_an_address_is_host_and_port(text, host, port):
    found = parse_address(text)
    assert found == Address(host, port)
    assert parse_address(str(found)) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no port"),
        ("coordinator.example", "has no port"),
        ("coordinator.example:", "has no port"),
        ("https://coordinator.example:8000", "begins like a URL"),
        ("coordinator.example:0", "1 to 65535"),
        ("coordinator.example:65536", "1 to 65535"),
        ("coordinator.example:8_0", "1 to 65535"),
        ("coordinator.example:8000/x", "1 to 65535"),
        (":8000", "neither a DNS name nor"),
        ("192.0.2.:8000", "neither a DNS name nor"),
        ("192.0.2.300:8000", "neither a DNS name nor"),
        ("a b:8000", "neither a DNS name nor"),
        ("-a.example:8000", "neither a DNS name nor"),
        ("a..b:8000", "neither a DNS name nor"),
        ("a" * 64 + ":8000", "neither a DNS name nor"),
        ("[coordinator.example]:8000", "neither a DNS name nor"),
        ("2001:db8::7:8000", "IPv6"),
        ("2001:db8::7]:8000", "IPv6"),
        ("[::1:8000", "is none"),
        ("$(reboot):8000", "neither a DNS name nor"),
    ],
)
def test_what_is_wrong_is_said_with_an_example(text, message):
    with pytest.raises(ValueError, match=message) as told:
        parse_address(text)
    assert "coordinator.example:8000" in str(told.value)


def test_hosts():
    assert check_host("[::1]") == check_host("::1") == "::1"
    with pytest.raises(ValueError, match="neither"):
        check_host("a:80")


@pytest.mark.parametrize("text", ["proxy.example:3128", "https://proxy.example:3128", "http://proxy.example"])
def test_a_proxy_is_http_host_port(text):
    check_proxy("http://proxy.example:3128")
    check_proxy("http://proxy.example:3128/")
    with pytest.raises(ValueError, match=r"host:port"):
        check_proxy(text)

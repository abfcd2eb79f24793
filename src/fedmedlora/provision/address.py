"""``host:port``: where a coordinator is reached. Read strictly: certificates and URLs are made of it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_EXAMPLE = "write host:port, such as coordinator.example:8000 or 192.0.2.7:8000"


@dataclass(frozen=True, slots=True)
class Address:
    """A host, as a DNS name or an IP address without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``text`` as an address; IPv6 stands in brackets. Raises ``ValueError``, saying what is wrong."""
    if "://" in text:
        raise ValueError(f"address {text[:80]!r} begins like a URL; {_EXAMPLE}")
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", text)
    if found is None:
        raise ValueError(f"address {text[:80]!r} is none ([2001:db8::7]:8000 for IPv6); {_EXAMPLE}")
    host, port = found.group(1), found.group(2)
    if not port:
        raise ValueError(f"address {text[:80]!r} has no port; {_EXAMPLE}")
    if ":" in port:
        raise ValueError(f"address {text[:80]!r}: IPv6 stands in brackets, [2001:db8::7]:8000; {_EXAMPLE}")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"address {text[:80]!r}: the port is a number from 1 to 65535; {_EXAMPLE}")
    return Address(check_host(host), int(port))


def check_host(text: str) -> str:
    """A DNS name or an IP address, which may stand in brackets, without them. Raises ``ValueError``."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        # Digits and dots alone are an address with a slip in it, and no name.
        if bare != text or not _DNS_NAME.fullmatch(text) or re.fullmatch(r"[0-9.]+", text):
            raise ValueError(
                f"host {text[:80]!r} is neither a DNS name nor an IP address; {_EXAMPLE}"
            ) from None
        return text


def loopback(host: str) -> str:
    """The address of this machine alone that ``host`` is; "" where others may reach it."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        return host if ipaddress.ip_address(host).is_loopback else ""
    except ValueError:
        return ""


def check_proxy(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is ``http://host:port`` of a web proxy."""
    rest = text.removeprefix("http://")
    if rest == text:
        raise ValueError(f"proxy {text[:80]!r}: write http://host:port, such as http://proxy.example:3128")
    parse_address(rest.removesuffix("/"))

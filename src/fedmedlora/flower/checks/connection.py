"""The way to the coordinator: can it be reached, is it the right one, do the clocks agree.

Nothing is sent but the question whether it is up.
"""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.flower.superlink import CLOCK_AHEAD_S, CLOCK_BEHIND_S
from fedmedlora.provision.address import Address, parse_address
from fedmedlora.provision.authority import Described, describe

ADDRESS, CERTIFICATE, CLOCK = "address", "certificate", "clock"
_MARGIN_S = 30  # for the way, and for a clock that runs on
MOST_AHEAD_S, MOST_BEHIND_S = CLOCK_AHEAD_S - _MARGIN_S, CLOCK_BEHIND_S - _MARGIN_S
GOOD_S = 5.0  # beyond, a clock that nobody sets is likely
_ENDS_SOON = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Route:
    """Where the coordinator is, through which proxy ("": none), and how long to wait, seconds."""

    to: Address
    proxy: str = ""
    timeout_s: float = 10.0

    def open(self) -> socket.socket:
        """A connection. Raises ``OSError`` where there is none to be had, also by the proxy's word."""
        if not self.proxy:
            return socket.create_connection((self.to.host, self.to.port), timeout=self.timeout_s)
        by = parse_address(self.proxy.removeprefix("http://").removesuffix("/"))
        tunnel = http.client.HTTPConnection(by.host, by.port, timeout=self.timeout_s)
        tunnel.set_tunnel(self.to.host, self.to.port)
        tunnel.connect()
        return tunnel.sock

    def __str__(self) -> str:
        return f"{self.to}" + (f" through {self.proxy}" if self.proxy else "")


def route_of(site: SiteFile, timeout_s: float = 10.0) -> Route:
    """The way that ``site.toml`` says."""
    return Route(parse_address(site.coordinator.address), site.coordinator.proxy, timeout_s)


def check_address(route: Route) -> Finding:
    """Whether somebody takes a TCP connection at the address."""
    ask = "the firewall must let this machine connect out to it"
    try:
        route.open().close()
    except socket.gaierror as error:
        asked = route.proxy or route.to.host
        return Finding(
            ADDRESS,
            False,
            f"{asked}: the name is not known here ({error.strerror})",
            "correct the name in site.toml, or ask who runs the network for its entry",
        )
    except TimeoutError:
        return Finding(
            ADDRESS,
            False,
            f"{route}: no answer within {route.timeout_s:.0f} s",
            f"{ask} (if all ways out lead through a web proxy, name it under [coordinator] proxy)",
        )
    except ConnectionRefusedError:
        what = "the proxy" if route.proxy else "the coordinator"
        return Finding(ADDRESS, False, f"{route}: refused", f"{what} is not running there, or {ask}")
    except (OSError, http.client.HTTPException) as error:
        return Finding(ADDRESS, False, f"{route}: {_short(error)}", ask)
    return Finding(ADDRESS, True, f"{route} answers")


def check_certificate(route: Route, authority: bytes, now: datetime) -> Finding:
    """Whether what answers there is the consortium's coordinator. ``authority``: its certificate, PEM."""
    try:
        shown = describe(_shown(route))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding(
            CERTIFICATE,
            False,
            f"{route}: no TLS there ({_short(error)})",
            "the coordinator must run as `fedmedlora coordinator start`; is the port another program's?",
        )
    try:
        with _trusting(route, authority):
            pass
    except ssl.SSLCertVerificationError as error:
        return Finding(CERTIFICATE, False, *_why_not(error, shown, route, now))
    except (OSError, ssl.SSLError) as error:
        return Finding(
            CERTIFICATE, False, f"{route}: {_short(error)}", "try again; then tell the coordinator"
        )
    soon = shown.ends - now < _ENDS_SOON
    return Finding(
        CERTIFICATE,
        True,
        f"of {route.to.host}, signed by the consortium's authority, until {shown.ends:%Y-%m-%d}",
        "it ends soon: remind the coordinator to renew it" if soon else "",
    )


def check_clock(route: Route, authority: bytes, clock: Callable[[], datetime]) -> Finding:
    """This machine's clock against the coordinator's, as its answer to "are you up?" dates it.

    ``clock``: the time here. An answer whose sender cannot be verified is taken too, and said to be one: a
    wrong clock is a reason for which a certificate does not verify.
    """
    told = ""
    try:
        with _trusting(route, authority) as wire:
            before, there = clock(), _date(wire, route.to)
            after = clock()
    except ssl.SSLCertVerificationError:
        told = " (by an answer that could not be verified)"
        try:
            with _unverified(route) as wire:
                before, there = clock(), _date(wire, route.to)
                after = clock()
        except (OSError, ValueError, http.client.HTTPException) as error:
            return _no_clock(error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _no_clock(error)
    # The header has whole seconds, cut off, and was written between the two moments.
    ahead_s = ((before + (after - before) / 2) - (there + timedelta(seconds=0.5))).total_seconds()
    found = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the coordinator's{told}"
    if not -MOST_BEHIND_S <= ahead_s <= MOST_AHEAD_S:
        return Finding(
            CLOCK,
            False,
            found,
            f"set this machine's clock (NTP): requests from a clock more than {MOST_AHEAD_S} s ahead or "
            f"{MOST_BEHIND_S} s behind are refused. If this one is right, the coordinator's is wrong",
        )
    return Finding(CLOCK, True, found, "set by NTP it would agree" if abs(ahead_s) > GOOD_S else "")


def _no_clock(error: Exception) -> Finding:
    return Finding(
        CLOCK,
        False,
        f"could not be compared: no dated answer from the coordinator ({_short(error)})",
        "see to the connection first",
    )


def _why_not(
    error: ssl.SSLCertVerificationError, shown: Described, route: Route, now: datetime
) -> tuple[str, str]:
    """(what is wrong with the certificate that was shown, what to do)."""
    if not shown.begins <= now < shown.ends:
        return (
            f"holds from {shown.begins:%Y-%m-%d %H:%M} to {shown.ends:%Y-%m-%d %H:%M} UTC, and this "
            f"machine's clock says {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            "correct the clock; if it is right, the coordinator renews its certificate (`fedmedlora "
            "provision ... --renew`)",
        )
    if "mismatch" in error.verify_message.lower() or "not valid for" in error.verify_message.lower():
        return (
            f"holds for {', '.join(shown.hosts) or 'nothing'}, not for {route.to.host}",
            "write the address into site.toml for which it holds, or have the coordinator add this one to "
            "consortium.toml",
        )
    return (
        f"not signed by the consortium's authority, but by {shown.issuer!r} ({error.verify_message})",
        "this is another server, or a proxy that opens TLS connections: ask who runs the network to leave "
        f"connections to {route.to} alone. Do not replace ca.crt to make it fit",
    )


def _trusting(route: Route, authority: bytes) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.decode("ascii", "replace"))
    return _wrapped(context, route)


def _unverified(route: Route) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return _wrapped(context, route)


def _wrapped(context: ssl.SSLContext, route: Route) -> ssl.SSLSocket:
    plain = route.open()
    try:
        return context.wrap_socket(plain, server_hostname=route.to.host)
    except BaseException:
        plain.close()
        raise


def _shown(route: Route) -> bytes:
    with _unverified(route) as wire:
        return wire.getpeercert(binary_form=True) or b""


def _date(wire: ssl.SSLSocket, to: Address) -> datetime:
    wire.sendall(f"GET /health HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n".encode("ascii"))
    response = http.client.HTTPResponse(wire)
    response.begin()
    said = response.headers.get("Date", "")
    if not said:
        raise ValueError("its answer has no date")
    return email.utils.parsedate_to_datetime(said)


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__

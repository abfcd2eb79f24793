"""``consortium.toml``: what it may hold, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora.provision.address import Address
from fedmedlora.provision.consortium import load_consortium, reference_page

ROOT = Path(__file__).parents[2]
HEAD = 'name = "x"\n[coordinator]\naddress = "c.example:8000"\n'
SITE = '[[sites]]\nname = "mercy"\n'


def test_the_smallest_file(write_consortium):
    found = write_consortium(HEAD + SITE)
    place = found.coordinator
    assert place.listens_on() == Address("0.0.0.0", 8000)
    assert place.control() == Address("127.0.0.1", 8001)
    assert place.hosts() == ("c.example", "localhost", "127.0.0.1", "::1")
    assert [site.name for site in found.sites] == ["mercy"]


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("Localhost", "127.0.0.1"),
        ("[::1]", "::1"),
        ("localhost.example", "0.0.0.0"),
        ("192.0.2.7", "0.0.0.0"),
    ],
)
def test_a_trial_on_one_machine_is_not_open_to_others(write_consortium, host, own):
    place = write_consortium(HEAD.replace("c.example", host) + SITE).coordinator
    assert place.listens_on() == Address(own, 8000)


def test_behind_a_forwarding(write_consortium):
    place = write_consortium(
        'name = "x"\n[coordinator]\naddress = "c.example:443"\nlisten = "192.0.2.7:65535"\n'
        'other_names = ["d.example", "c.example"]\n' + SITE
    ).coordinator
    assert place.listens_on() == Address("192.0.2.7", 65535)
    assert place.control() == Address("127.0.0.1", 65534)
    assert place.hosts() == ("c.example", "d.example", "192.0.2.7", "localhost", "127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"consortium.toml: name: missing"),
        ('name = " "\n' + SITE, "name: empty"),
        ('name = "a\\nb"\n' + SITE, "control characters"),
        ('name = "x"\n' + SITE, r"\[coordinator\] address: missing"),
        ('name = "x"\n[coordinator]\naddress = ""\n' + SITE, r"\[coordinator\] address: missing"),
        ('name = "x"\n[coordinator]\naddress = "c.example"\n' + SITE, "has no port"),
        ('name = "x"\n[coordinator]\naddres = "c.example:1"\n' + SITE, "unknown key; did you mean address"),
        (HEAD, r"\[\[sites\]\]: none"),
        (HEAD + '[[sites]]\nname = "../mercy"\n', r"number 1 \(../mercy\) name: site name '../mercy' is not"),
        (HEAD + '[[sites]]\nname = "Authority"\n', "names a folder of its own"),
        (HEAD + '[[sites]]\nname = "coordinator"\n', "names a folder of its own"),
        (HEAD + SITE + '[[sites]]\nname = "Mercy"\n', "two are named 'Mercy'"),
        (HEAD + SITE + 'proxy = "proxy.example:3128"\n', "write http://host:port"),
        (HEAD + "control_port = 8000\n" + SITE, "8000 is the port that the sites reach"),
        (HEAD + "certificate_days = 0\n" + SITE, "certificate_days: 0 is out of range"),
        (HEAD + 'other_names = ["a b"]\n' + SITE, "neither a DNS name nor"),
        ("name = ", "not TOML"),
    ],
)
def test_what_is_wrong_is_said(write_consortium, text, message):
    with pytest.raises(ValueError, match=message):
        write_consortium(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_consortium(tmp_path / "consortium.toml")


def test_the_page_and_the_code_agree():
    assert (ROOT / "docs/consortium.md").read_text(encoding="utf-8").endswith(reference_page())

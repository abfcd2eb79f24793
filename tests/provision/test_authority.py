"""The authority and the certificates it signs: times and names by hand, and what OpenSSL says of them."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from fedmedlora.provision.authority import (
    Authority,
    belongs_to,
    describe,
    fingerprint,
    is_signed_by,
    new_authority,
    new_key,
    same_fingerprint,
    server_certificate,
)

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
HOSTS = ("coordinator.example", "192.0.2.7", "::1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority("Three hospitals", new_key(), NOW)


@pytest.fixture(scope="module")
def key() -> bytes:
    return new_key()


@pytest.fixture(scope="module")
def certificate(authority, key) -> bytes:
    return server_certificate(authority, key, HOSTS, NOW, 365)


def test_times_and_names(authority, certificate):
    found = describe(certificate)
    assert found.hosts == HOSTS
    # One hour back, for clocks that differ; then 365 days of 2026 and 2027.
    assert (found.begins, found.ends) == (
        datetime(2026, 11, 29, 11, tzinfo=UTC),
        datetime(2027, 11, 29, 12, tzinfo=UTC),
    )
    assert found.issuer == describe(authority.certificate).subject == "CN=Three hospitals authority"
    ten_years = describe(authority.certificate)
    assert (ten_years.begins, ten_years.ends - NOW) == (NOW - timedelta(hours=1), timedelta(days=3650))


def test_only_the_authority_signs(authority, certificate):
    from cryptography import x509

    def constraints(content: bytes) -> tuple[bool, int | None]:
        found = x509.load_pem_x509_certificate(content).extensions
        signs = found.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        basic = found.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert basic.value.ca == signs
        return basic.value.ca, basic.value.path_length

    assert constraints(authority.certificate) == (True, 0)  # and nothing that it signed signs
    assert constraints(certificate) == (False, None)


def test_a_certificate_ends_with_its_authority(authority, key):
    late = server_certificate(authority, key, HOSTS, NOW + timedelta(days=3600), 365)
    assert describe(late).ends == describe(authority.certificate).ends


def test_who_belongs_to_whom(authority, certificate, key):
    other = new_authority("Three hospitals", new_key(), NOW)  # of the same name
    assert is_signed_by(certificate, authority.certificate)
    assert not is_signed_by(certificate, other.certificate)
    assert not is_signed_by(certificate, certificate)
    assert belongs_to(certificate, key)
    assert belongs_to(authority.certificate, authority.key)
    assert not belongs_to(certificate, authority.key)


def test_no_repr_holds_a_key(authority):
    assert authority.key.splitlines()[1].decode() not in repr(authority)


def test_a_long_name_fits(key):
    found = new_authority("x" * 200, key, NOW)
    assert describe(found.certificate).subject == f"CN={'x' * 54} authority"  # 64 characters in all
    host = ".".join(["y" * 60] * 4)
    assert describe(server_certificate(found, key, [host], NOW, 1)).hosts == (host,)


def test_fingerprints_are_compared_however_they_are_written():
    assert same_fingerprint("AB:CD", "sha256 Fingerprint=ab:cd".replace(" Fingerprint", ""))
    assert same_fingerprint("AB:CD", "abcd")
    assert same_fingerprint("AB:CD", "SHA256:ab:cd")
    assert not same_fingerprint("AB:CD", "AB:CE")
    assert not same_fingerprint("", "")


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_what_is_no_certificate(content):
    with pytest.raises(ValueError, match="not a certificate"):
        describe(content)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_agrees(authority, certificate, key, tmp_path):
    for name, content in (("ca.crt", authority.certificate), ("server.crt", certificate)):
        (tmp_path / name).write_bytes(content)

    def openssl(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, text=True)

    printed = openssl("x509", "-in", "ca.crt", "-noout", "-fingerprint", "-sha256").stdout
    assert printed.strip().endswith(f"={fingerprint(authority.certificate)}")
    strict = ("verify", "-x509_strict", "-attime", str(int(NOW.timestamp())), "-purpose", "sslserver")
    for host, holds in (("coordinator.example", True), ("other.example", False)):
        done = openssl(*strict, "-verify_hostname", host, "-CAfile", "ca.crt", "server.crt")
        assert (done.returncode == 0) == holds, done.stderr
    # What the authority signed signs nothing itself.
    fake = server_certificate(Authority(certificate, key), new_key(), HOSTS, NOW, 1)
    (tmp_path / "fake.crt").write_bytes(fake)
    done = openssl(*strict, "-CAfile", "ca.crt", "-untrusted", "server.crt", "fake.crt")
    assert done.returncode != 0

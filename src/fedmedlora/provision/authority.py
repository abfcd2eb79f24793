"""The consortium's own certificate authority, and the coordinator's certificate that it signs.

Sites trust this authority alone, and no other of the machine: who wants to pass for the coordinator needs its
key, which stays in the folder where the kits are made. Times are UTC. A certificate begins an hour before it
is made, because clocks differ; nothing here reads a clock.

X.509 as in RFC 5280 (https://www.rfc-editor.org/rfc/rfc5280), with the extensions that strict readers want.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
BACKDATED = timedelta(hours=1)
_MOST_IN_A_NAME = 64  # characters of a common name, RFC 5280 appendix A.1


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificate and key as PEM, the contents of files."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Described:
    """What a certificate says. ``fingerprint``: see ``fingerprint``; ``hosts``: DNS names and addresses."""

    subject: str
    issuer: str
    hosts: tuple[str, ...]
    begins: datetime
    ends: datetime
    fingerprint: str


def new_key() -> bytes:
    """A private key for a server or an authority: P-256, PEM without a passphrase."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_authority(name: str, key: bytes, now: datetime) -> Authority:
    """An authority for the consortium called ``name``, from ``now`` on for ten years."""
    own = _load_key(key)
    subject = _name(f"{name[: _MOST_IN_A_NAME - 10]} authority")
    builder = (
        _builder(subject, subject, own.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own.public_key()), critical=False)
    )
    return Authority(_pem(builder.sign(own, hashes.SHA256())), key)


def server_certificate(
    authority: Authority, key: bytes, hosts: Sequence[str], now: datetime, days: int
) -> bytes:
    """A certificate for the server that holds ``key`` and is reached as ``hosts``, from ``now`` on.

    ``hosts``: DNS names and IP addresses, at least one. It ends with its authority at the latest.
    """
    issuer, server = x509.load_pem_x509_certificate(authority.certificate), _load_key(key)
    ends = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    signer = _load_key(authority.key)
    builder = (
        _builder(_name(hosts[0][:_MOST_IN_A_NAME]), issuer.subject, server.public_key(), now, ends)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return _pem(builder.sign(signer, hashes.SHA256()))


def describe(certificate: bytes) -> Described:
    """What ``certificate`` (PEM or DER) says. Raises ``ValueError`` for what is none."""
    try:
        read = (
            x509.load_pem_x509_certificate
            if certificate.lstrip().startswith(b"-----BEGIN")
            else x509.load_der_x509_certificate
        )
        found = read(certificate)
    except ValueError:
        raise ValueError("not a certificate (PEM or DER)") from None
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = (
            *names.get_values_for_type(x509.DNSName),
            *map(str, names.get_values_for_type(x509.IPAddress)),
        )
    except (x509.ExtensionNotFound, ValueError):
        hosts = ()
    return Described(
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        hosts=hosts,
        begins=found.not_valid_before_utc,
        ends=found.not_valid_after_utc,
        fingerprint=_hex(found),
    )


def fingerprint(certificate: bytes) -> str:
    """sha256 of a certificate in pairs, as ``openssl x509 -noout -fingerprint -sha256`` prints it."""
    return describe(certificate).fingerprint


def same_fingerprint(one: str, other: str) -> bool:
    """Whether two fingerprints of certificates are the same, however they are written."""
    plain = [text.lower().removeprefix("sha256").strip(" =:").replace(":", "") for text in (one, other)]
    return plain[0] == plain[1] != ""


def is_signed_by(certificate: bytes, authority: bytes) -> bool:
    """Whether ``authority`` (a certificate) signed ``certificate``."""
    try:
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority)
        )
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def belongs_to(certificate: bytes, key: bytes) -> bool:
    """Whether ``key`` is the private key of ``certificate``."""
    return x509.load_pem_x509_certificate(certificate).public_key() == _load_key(key).public_key()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        found = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise ValueError("not a private key in PEM without a passphrase") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise ValueError("a private key of another kind than elliptic curve")
    return found


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _hex(certificate: x509.Certificate) -> str:
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))

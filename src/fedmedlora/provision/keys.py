"""A site's key pair: it proves to the coordinator who speaks, and the private half never leaves the site.

Elliptic curve P-384 in OpenSSH's format, as Flower's SuperNode authentication takes them (and as
``ssh-keygen -t ecdsa -b 384`` makes them): https://flower.ai/docs/framework/how-to-authenticate-supernodes.html
Fingerprints are those that ``ssh-keygen -lf`` prints, so that two people can compare them on the telephone.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

_CURVES = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_HOW = "make one with `fedmedlora site keygen`"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both halves as the contents of files. The private one never stands in a message or a ``repr``."""

    private: bytes = field(repr=False)
    public: bytes


def new_key_pair(site: str = "") -> KeyPair:
    """A new key pair. ``site``: its name, as the public key's comment."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return KeyPair(private, _public_line(key.public_key(), site))


def public_of(private: bytes, site: str = "") -> bytes:
    """The public half of a private key file's content. Raises ``ValueError`` for another kind of key."""
    try:
        key = serialization.load_ssh_private_key(private, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"not an OpenSSH private key without a passphrase; {_HOW}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"a private key of another kind than elliptic curve; {_HOW}")
    return _public_line(key.public_key(), site)


def check_public(public: bytes, site: str = "") -> bytes:
    """A public key file's content as one line of our own, with ``site`` as its comment.

    Raises ``ValueError`` for anything but one elliptic-curve key, and for a private one in words of its own.
    """
    if b"PRIVATE KEY" in public:
        raise ValueError(
            "holds a private key, which must never leave its site; what is sent is the file that ends in "
            f".pub. As this one has travelled, make a new pair ({_HOW})"
        )
    lines = public.decode("ascii", "replace").strip().splitlines()
    words = lines[0].split() if lines else []
    if len(lines) != 1 or words[0] not in _CURVES:
        kind = words[0][:40] if words else "nothing"
        raise ValueError(
            f"begins with {kind!r} and has {len(lines)} lines; one line with one of {', '.join(_CURVES)} is "
            f"taken: {_HOW}"
        )
    return _public_line(_public_key(public), site)


def fingerprint(public: bytes) -> str:
    """``SHA256:...`` of a public key file's content, as ``ssh-keygen -lf`` prints it."""
    blob = base64.b64decode(check_public(public).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def to_pem(public: bytes) -> bytes:
    """A public key file's content as PEM (SubjectPublicKeyInfo), which is how SuperLink knows a site."""
    return _public_key(check_public(public)).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _public_key(public: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_ssh_public_key(public.strip())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"not a public key, or cut off; {_HOW}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError(f"a public key of another kind than elliptic curve; {_HOW}")
    return key


def _public_line(key: ec.EllipticCurvePublicKey, comment: str) -> bytes:
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line + (b" " + comment.encode() if comment else b"") + b"\n"

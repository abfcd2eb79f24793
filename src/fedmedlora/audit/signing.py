"""The coordinator's key: made once, kept to itself, and with it the signatures under its passports.

Ed25519 (RFC 8032, https://www.rfc-editor.org/rfc/rfc8032) where a key is made here; ECDSA over P-256 with
SHA-256 and over P-384 with SHA-384 (FIPS 186-5, https://doi.org/10.6028/NIST.FIPS.186-5) for keys that
somebody brings. ``cryptography`` is imported here alone, and only when something is signed or verified.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora.audit.sorts import HASH, Choice, Text, of, refuse_wrong
from fedmedlora.durable import flush_folders

KEY_FILE = "passport-key.pem"
PUBLIC_FILE = "passport-key.public.pem"
ALGORITHMS = ("ed25519", "ecdsa-p256-sha256", "ecdsa-p384-sha384")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who signed. ``public_key``: SubjectPublicKeyInfo, its DER in base64. ``fingerprint``: its sha256."""

    algorithm: str = of(Choice(ALGORITHMS))
    public_key: str = of(Text("public key in base64", r"[A-Za-z0-9+/]{40,400}={0,2}"))
    fingerprint: str = of(HASH)

    def __post_init__(self) -> None:
        refuse_wrong(self, "key")

    def verifies(self, signature: str, data: bytes) -> bool:
        """Whether ``signature`` (base64) is this key's under ``data``.

        Raises ``ValueError`` where the key is none, or is another one than its own fingerprint says.
        """
        _refuse_without_library()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            der = base64.b64decode(self.public_key, validate=True)
            key: Any = load_der_public_key(der)
        except Exception as error:  # whatever the library makes of bytes from anywhere
            raise ValueError(f"key: not a public key ({type(error).__name__})") from None
        if public_key_of(key) != self:
            raise ValueError("key: its algorithm, its fingerprint or its form is not that of the key itself")
        try:
            told = base64.b64decode(signature, validate=True)
            if base64.b64encode(told).decode() != signature:  # the last letter has bits that mean nothing
                return False
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(told, data)
            else:
                key.verify(told, data, ec.ECDSA(_hash_of(key)))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A private key, which never leaves it, and its public half."""

    public: PublicKey
    _key: Any

    def sign(self, data: bytes) -> str:
        """The signature under ``data``, in base64."""
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519

        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return base64.b64encode(self._key.sign(data)).decode()
        return base64.b64encode(self._key.sign(data, ec.ECDSA(_hash_of(self._key)))).decode()


def signer_of(folder: Path) -> Signer:
    """The key in ``folder``, made there the first time (mode 0600), with its public half beside it, which
    follows a private key that somebody puts there instead.

    Raises ``ValueError`` for a key that others on this machine can read, or that is of another kind.
    """
    _refuse_without_library()
    path = folder / KEY_FILE
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path}: others on this machine can read it; chmod 600, or better make a new key")
    signer = _signer(path)
    public, pem = folder / PUBLIC_FILE, _public_pem(signer)
    if not public.exists() or public.read_bytes() != pem:  # to be given to whoever verifies
        _write(public, pem, 0o644, over=True)
    return signer


def read_public_key(path: Path) -> PublicKey:
    """The public key in a PEM file. Raises ``ValueError`` for anything else."""
    _refuse_without_library()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return public_key_of(load_pem_public_key(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:
        raise ValueError(
            f"{path}: not a public key in PEM of a kind that signs passports ({type(error).__name__}); the "
            f"coordinator has it as {PUBLIC_FILE} in its state folder"
        ) from None


def public_key_of(key: Any) -> PublicKey:
    """``key``, a public key of ``cryptography``'s. Raises ``ValueError`` for other kinds than ours."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if isinstance(key, ed25519.Ed25519PublicKey):
        algorithm = "ed25519"
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        algorithm = "ecdsa-p256-sha256"
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        algorithm = "ecdsa-p384-sha384"
    else:
        raise ValueError("a key that signs passports is Ed25519, or EC over P-256 or P-384")
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(algorithm, base64.b64encode(der).decode(), hashlib.sha256(der).hexdigest())


def _refuse_without_library() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise ValueError("signatures need the package cryptography: pip install 'fedmedlora[audit]'")


def _signer(path: Path) -> Signer:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key: Any = load_pem_private_key(path.read_bytes(), password=None)
        return Signer(public_key_of(key.public_key()), key)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path}: not a private key in PEM, without a password, of Ed25519 or of EC over P-256 or P-384 "
            f"({type(error).__name__}); moved away, a new one is made"
        ) from None


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600, over=False)


def _public_pem(signer: Signer) -> bytes:
    body = signer.public.public_key
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]).encode()


def _write(path: Path, content: bytes, mode: int, *, over: bool) -> None:
    """Put ``content`` at ``path`` as a whole file. Unless ``over``, what another process has just put there
    stays: nothing is ever written over a private key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        if over:
            Path(temporary).replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    flush_folders([path.parent])


def _hash_of(key: Any) -> Any:
    """The hash that goes with the key's curve."""
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384

    return SHA256() if key.curve.key_size == 256 else SHA384()

"""The key is made once and kept; a signature is of one key under one text."""

from __future__ import annotations

import base64
import stat
from dataclasses import replace

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'fedmedlora[audit]'")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fedmedlora.audit.signing import KEY_FILE, PUBLIC_FILE, PublicKey, read_public_key, signer_of

KEYS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa-p256-sha256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384-sha384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


def put(folder, key, protection=None):
    folder.mkdir(exist_ok=True)
    path = folder / KEY_FILE
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection or NoEncryption()))
    path.chmod(0o600)
    return folder


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_is_of_one_key_under_one_text(tmp_path, algorithm):
    signer, other = (signer_of(put(tmp_path / name, KEYS[algorithm]())) for name in ("a", "b"))
    assert signer.public.algorithm == algorithm
    signature = signer.sign(b"text")
    assert signer.public.verifies(signature, b"text")
    assert not signer.public.verifies(signature, b"text.")
    assert not other.public.verifies(signature, b"text")
    assert not signer.public.verifies(other.sign(b"text"), b"text")
    for wrong in ("", "none", "AAAA", signature[:-4], signature + "AAAA", " " + signature, "é"):
        assert not signer.public.verifies(wrong, b"text")
    raw = base64.b64decode(signature)
    for place in (0, len(raw) // 2, len(raw) - 1):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        assert not signer.public.verifies(base64.b64encode(changed).decode(), b"text")


def test_bits_of_a_signature_that_mean_nothing_must_be_as_they_were(tmp_path):
    signature = signer_of(tmp_path).sign(b"text")  # 64 bytes are 85 letters and a third of one
    assert signature.endswith("==")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    same = letters[letters.index(signature[85]) ^ 1]
    other = signature[:85] + same + "=="
    assert base64.b64decode(other) == base64.b64decode(signature)
    assert not signer_of(tmp_path).public.verifies(other, b"text")


def test_the_key_is_made_once_and_is_nobody_elses_business(tmp_path):
    folder = tmp_path / "state"
    first = signer_of(folder)
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert signer_of(folder).public == first.public
    assert read_public_key(folder / PUBLIC_FILE) == first.public
    assert b"PRIVATE" not in (folder / PUBLIC_FILE).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [KEY_FILE, PUBLIC_FILE]
    assert "PRIVATE" not in repr(first)
    (folder / KEY_FILE).chmod(0o640)
    with pytest.raises(ValueError, match="others on this machine can read it; chmod 600"):
        signer_of(folder)


def test_the_public_half_follows_a_key_that_is_put_in_its_place(tmp_path):
    old = signer_of(tmp_path).public
    put(tmp_path, KEYS["ecdsa-p256-sha256"]())
    new = signer_of(tmp_path).public
    assert new != old
    assert read_public_key(tmp_path / PUBLIC_FILE) == new
    assert stat.S_IMODE((tmp_path / PUBLIC_FILE).stat().st_mode) == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == [KEY_FILE, PUBLIC_FILE]


def test_a_key_of_another_kind_is_refused(tmp_path):
    small = rsa.generate_private_key(65537, 1024)
    k1 = ec.generate_private_key(ec.SECP256K1())
    for name, key, protection in (
        ("rsa", small, None),
        ("k1", k1, None),
        ("password", KEYS["ed25519"](), BestAvailableEncryption(b"x")),
    ):
        with pytest.raises(ValueError, match="not a private key in PEM, without a password"):
            signer_of(put(tmp_path / name, key, protection))
    folder = tmp_path / "junk"
    folder.mkdir()
    for junk in (b"", b"\0\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        (folder / KEY_FILE).write_bytes(junk)
        (folder / KEY_FILE).chmod(0o600)
        with pytest.raises(ValueError, match="not a private key"):
            signer_of(folder)
        (folder / "public.pem").write_bytes(junk)
        with pytest.raises(ValueError, match="not a public key in PEM"):
            read_public_key(folder / "public.pem")
    signer_of(tmp_path / "good")
    with pytest.raises(ValueError, match="not a public key in PEM"):  # the private one, by mistake
        read_public_key(tmp_path / "good" / KEY_FILE)
    with pytest.raises(ValueError, match="cannot be read"):
        read_public_key(tmp_path / "absent.pem")


def test_a_key_that_is_not_what_it_says_is_refused(tmp_path):
    signer = signer_of(tmp_path)
    signature, public = signer.sign(b"x"), signer.public
    other = signer_of(tmp_path / "b").public
    for changed in (
        replace(public, fingerprint=other.fingerprint),
        replace(public, algorithm="ecdsa-p256-sha256"),
        replace(public, public_key=other.public_key),
        replace(public, public_key="A" * 60),
    ):
        with pytest.raises(ValueError, match=r"^key: "):
            changed.verifies(signature, b"x")
    for field, value in (("algorithm", "none"), ("public_key", ""), ("fingerprint", "0" * 63)):
        with pytest.raises(ValueError, match=f"key: {field}"):
            replace(public, **{field: value})
    assert PublicKey(public.algorithm, public.public_key, public.fingerprint).verifies(signature, b"x")

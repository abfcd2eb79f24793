"""Key pairs: Flower's own readers take them, fingerprints are OpenSSH's, other kinds are refused."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fedmedlora.provision.keys import check_public, fingerprint, new_key_pair, public_of, to_pem

# Made with `ssh-keygen -t ecdsa -b 384`; `ssh-keygen -lf` printed the fingerprint.
KNOWN = (
    b"ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBOLeEnH07peoA"
    b"2V/eeak6e9Q2Sb8A6gtC+flneezFv1Q5iOYAuvi71no5YtCd0oXvW0jsh6+3ooAS71H0OImYZWKTjY9U1M4+9BDdNQ"
    b"NE62Un6TyBg6en7CTYMFy0Guvhg== lakeside\n"
)
KNOWN_FINGERPRINT = "SHA256:pAdBwdkyd+UPPipoerdGawgH6pqF3wpubk3ltWcFv34"


def openssh(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def public(key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def test_flower_takes_both_halves(tmp_path):
    pytest.importorskip("flwr")
    from flwr.cli.supernode.register import try_load_public_key
    from flwr.supercore.primitives.asymmetric import uses_nist_ec_curve

    pair = new_key_pair("lakeside")
    (tmp_path / "site.pub").write_bytes(pair.public)
    assert try_load_public_key(tmp_path / "site.pub") == to_pem(pair.public)
    private = serialization.load_ssh_private_key(pair.private, None)
    assert uses_nist_ec_curve(private.public_key())


def test_the_public_half_is_that_of_the_private_one():
    pair, other = new_key_pair("lakeside"), new_key_pair("lakeside")
    assert public_of(pair.private, "lakeside") == pair.public
    assert pair.public.endswith(b" lakeside\n")
    assert pair.public != other.public
    assert pair.private not in repr(pair).encode()


def test_the_fingerprint_is_openssh_s():
    assert fingerprint(KNOWN) == KNOWN_FINGERPRINT
    assert fingerprint(KNOWN.replace(b" lakeside", b"")) == KNOWN_FINGERPRINT


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_curves_that_flower_takes(curve):
    key = ec.generate_private_key(curve)
    assert public_of(openssh(key)) == check_public(public(key)) == public(key) + b"\n"


# Of the same kind, made with a passphrase; cut off, because the header alone says that it has one.
LOCKED = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + (
    b"b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0\n-----END OPENSSH PRIVATE KEY-----\n"
)
ED = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with 'nothing' and has 0 lines"),
        (public(ED), "begins with 'ssh-ed25519'"),
        (b"hello", "begins with 'hello'"),
        (b"\xff\xfe", "begins with"),
        (KNOWN + KNOWN, "has 2 lines"),
        (KNOWN[:60], "not a public key, or cut off"),
        (b"ecdsa-sha2-nistp384", "not a public key, or cut off"),
        (openssh(ED), "must never leave its site"),
    ],
    ids=["empty", "ed25519", "words", "bytes", "twice", "cut", "type alone", "private"],
)
def test_what_is_no_public_key(content, message):
    with pytest.raises(ValueError, match=message):
        check_public(content)


def test_no_message_holds_a_private_key():
    private = new_key_pair().private
    with pytest.raises(ValueError, match="make a new pair") as told:
        check_public(private)
    assert private.splitlines()[1].decode()[:20] not in str(told.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an OpenSSH private key"),
        (KNOWN, "not an OpenSSH private key"),
        (openssh(ED), "of another kind than elliptic curve"),
        (LOCKED, "without a passphrase"),
    ],
)
def test_what_is_no_private_key(content, message):
    with pytest.raises(ValueError, match=message):
        public_of(content)

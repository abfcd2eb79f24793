"""Which keys are registered and withdrawn: worked by hand, without a SuperLink."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower.coordinator import SiteStatus, _words, statuses
from fedmedlora.flower.registry import Change, Node, change, usable_keys
from fedmedlora.provision.keys import new_key_pair, to_pem

A, B, C = b"key of a", b"key of b", b"key of c"


def node(name: str, key: bytes, status: str = "online", since: str = "") -> Node:
    return Node(len(name) + len(key), name, key, status, since)


@pytest.mark.parametrize(
    ("sites", "nodes", "all_are_here", "wanted"),
    [
        ({}, [], True, Change()),
        ({"a": A}, [], True, Change(register=("a",))),
        ({"a": A}, [node("a", A, "registered")], True, Change()),
        ({"a": A, "b": B}, [node("a", A, "offline")], False, Change(register=("b",))),
        # Another key: the old one goes, also when only the folder changed.
        ({"a": B}, [node("a", A)], False, Change(register=("a",), withdraw=(node("a", A),))),
        # No longer there: at a start only.
        ({"a": A}, [node("a", A), node("c", C)], True, Change(withdraw=(node("c", C),))),
        ({"a": A}, [node("a", A), node("c", C)], False, Change()),
        # Withdrawn once, never again.
        ({"a": A}, [node("a", A, "unregistered")], True, Change(refused=("a",))),
        ({"a": B}, [node("a", A, "unregistered")], True, Change(register=("a",))),
        # The same key under another name is the same site.
        ({"b": A}, [node("a", A)], True, Change()),
    ],
)
def test_what_is_registered_and_withdrawn(sites, nodes, all_are_here, wanted):
    assert change(sites, nodes, all_are_here=all_are_here) == wanted


def test_keys_in_a_folder(tmp_path):
    assert usable_keys(tmp_path) == ({}, ())
    assert usable_keys(tmp_path / "nowhere") == ({}, ())
    pair = new_key_pair("mercy")
    (tmp_path / "mercy.pub").write_bytes(pair.public)
    (tmp_path / "README").write_text("not a key")
    assert usable_keys(tmp_path) == ({"mercy": to_pem(pair.public)}, ())
    (tmp_path / "northgate.pub").write_bytes(pair.public)
    assert "the same key as mercy's" in usable_keys(tmp_path)[1][0]
    (tmp_path / "northgate.pub").write_bytes(b"hello")
    assert "northgate.pub: begins with 'hello'" in usable_keys(tmp_path)[1][0]
    (tmp_path / "northgate.pub").unlink()
    (tmp_path / "-x.pub").write_bytes(pair.public)
    assert "site name '-x' is not allowed" in usable_keys(tmp_path)[1][0]


def test_a_file_that_cannot_be_used_does_not_hide_the_others(tmp_path):
    pair = new_key_pair("mercy")
    (tmp_path / "lakeside.pub").mkdir()  # as good as a file of another user, also where root runs the tests
    (tmp_path / "mercy.pub").write_bytes(pair.public)
    (tmp_path / "northgate.pub").write_bytes(b"hello")
    (tmp_path / "twin.pub").write_bytes(pair.public)
    found, faults = usable_keys(tmp_path)
    assert found == {"mercy": to_pem(pair.public)}
    assert "lakeside.pub: cannot be read (Is a directory); chown or chmod it" in faults[0]
    assert [fault.split(": ")[0].rsplit("/")[-1] for fault in faults] == [
        "lakeside.pub",
        "northgate.pub",
        "twin.pub",
    ]


def test_a_file_that_cannot_be_read_just_now_is_no_fault_of_it(tmp_path, monkeypatch):
    (tmp_path / "mercy.pub").write_bytes(new_key_pair("mercy").public)

    def read(path):
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(OSError, match="Too many open files"):
        usable_keys(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_of_somebody_else(tmp_path):
    (tmp_path / "mercy.pub").write_bytes(new_key_pair("mercy").public)
    (tmp_path / "mercy.pub").chmod(0)
    assert usable_keys(tmp_path)[1][0].startswith(f"{tmp_path}/mercy.pub: cannot be read (Permission denied)")


def test_how_sites_stand():
    nodes = (
        node("a", A, "online", "2026-11-29T12:00:00"),
        node("old", C, "unregistered"),
        node("b", B, "registered"),
    )
    assert statuses({"a": A, "b": B, "c": C}, nodes) == (
        SiteStatus("a", True, True, "2026-11-29T12:00:00"),
        SiteStatus("b", True, False),
        SiteStatus("c", False, False),
    )


def test_what_was_done_is_told():
    assert "sites/ is empty" in _words(Change(), {})
    done = Change(("a",), (node("b", B),), ("c",))
    told = _words(done, {"a": A, "c": C})
    assert told.startswith("SuperLink is up; 2 sites: a, c; newly registered: a; withdrawn for good: b; ")
    assert "each makes a new pair" in told

"""The app bundle: what Flower makes of ours is the same each time, and no other is let in."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from app_bundles import APP, CONTENT, fab, files_of, zipped
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.cli.build import build_fab_from_disk

from fedmedlora.flower.allows import Refused
from fedmedlora.flower.bundle import own_bundle, refuse_other_app, refuse_other_bundle
from fedmedlora.flower.submit import app_folder

OWN = own_bundle()


def made_by_flower(folder: Path) -> bytes:
    """What ``flwr run`` sends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # flwr's own
        return build_fab_from_disk(folder)


SENT = made_by_flower(app_folder())


def with_app(old: str, new: str) -> bytes:
    """Our bundle with something changed in its pyproject.toml, and the list of contents to match."""
    text = files_of(SENT)[APP]
    assert old.encode() in text
    return fab({APP: text.replace(old.encode(), new.encode())})


def refuse(content: bytes) -> None:
    refuse_other_bundle(OWN, content, hashlib.sha256(content).hexdigest())


def test_flower_makes_the_same_bytes_each_time(tmp_path):
    copy = tmp_path / "elsewhere" / "app"
    shutil.copytree(app_folder(), copy)
    os.utime(copy / APP, (1, 1))  # another time, another folder, another process
    assert made_by_flower(copy) == SENT
    assert list(files_of(SENT)) == [APP, CONTENT]
    refuse(SENT)


def test_our_own_copy_is_one_that_flower_unpacks(tmp_path):
    """Flower finds it by the names and the hash that a guarded SuperNode stores with it."""
    from flwr.cli.install import install_from_fab
    from flwr.common.config import get_fused_config_from_fab, get_project_config, get_project_dir
    from flwr.supercore.run import Run

    folder = install_from_fab(OWN.content, install_dir=tmp_path, skip_prompt=True)
    found = get_project_dir(OWN.app_id, OWN.version, OWN.sha256)
    assert folder.name == found.name
    assert [path.name for path in folder.iterdir()] == [APP]
    assert get_project_config(folder) == OWN.app
    run = replace(Run.create_empty(1), override_config={"study": "x"})
    assert get_fused_config_from_fab(OWN.content, run) == {"study": "x"}
    assert own_bundle().content == OWN.content
    assert OWN.app["tool"]["flwr"]["app"]["components"]["clientapp"] == "fedmedlora.flower.client_app:app"
    refuse(OWN.content)


@pytest.mark.parametrize(
    "content",
    [
        zipped(files_of(SENT), zipfile.ZIP_STORED),
        zipped(files_of(SENT), date_time=(2026, 3, 5, 1, 2, 4)),
        zipped(files_of(SENT), create_system=0),  # as on Windows
        zipped(dict(reversed(files_of(SENT).items()))),
        # Another tomli_w might order and space it otherwise, or leave comments.
        fab({APP: files_of(SENT)[APP] + b"# a comment\n"}),
    ],
    ids=["stored", "dated", "windows", "reversed", "as written"],
)
def test_what_other_machines_make_of_the_same_app_is_taken(content):
    assert content not in (SENT, OWN.content)
    refuse(content)


EVIL = b"import os\n"
BOMB = fab({APP: files_of(SENT)[APP] + b"\n" * 20_000_000})  # 20 MB, as 20 kB


def lying(content: bytes) -> bytes:
    """``content`` whose headers claim that each file has 10 bytes unpacked."""
    out = bytearray(content)
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = out.find(mark)
        while start >= 0:
            out[start + at : start + at + 4] = (10).to_bytes(4, "little")
            start = out.find(mark, start + 4)
    return bytes(out)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (fab({**files_of(SENT), "evil.py": EVIL}), r"3 files \('.info/CONTENT', 'evil.py'"),
        (fab({**files_of(SENT), "fedmedlora/__init__.py": EVIL}), "holds 3 files"),
        (fab({**files_of(SENT), "../evil.pth": EVIL}), r"holds 3 files \('../evil.pth'"),
        (fab({**files_of(SENT), "/etc/cron.d/evil": EVIL}), "holds 3 files"),
        (zipped({APP: files_of(SENT)[APP]}), "holds 1 files"),
        (zipped({}), "holds 0 files"),
        (zipped({"../pyproject.toml": b"", CONTENT: b""}), "holds 2 files"),
        (zipped({"pyproject.toml/": b"", CONTENT: b""}), "holds 2 files"),
        (with_app("fedmedlora.flower.client_app:app", "os:system"), "is not that of the fedmedlora"),
        (with_app("fedmedlora.flower.client_app:app", "evil:app"), "is not that of the fedmedlora"),
        (with_app("fedmedlora.flower.server_app:app", "evil:app"), "is not that of the fedmedlora"),
        (with_app("dependencies = []", 'dependencies = ["evil"]'), "is not that of the fedmedlora"),
        (with_app('version = "1.0.0"', 'version = "1.0.1"'), "is not that of the fedmedlora"),
        (with_app("[project]", "[tool.evil]\nx = 1\n[project]"), "is not that of the fedmedlora"),
        (fab({APP: b"= no toml"}), r"cannot be read \(TOMLDecodeError\)"),
        (fab({APP: b"\xff"}), r"cannot be read \(UnicodeDecodeError\)"),
        (fab({APP: b"a = " + b"[" * 10_000}), r"cannot be read \(RecursionError\)"),
        (BOMB, "more than 16384 bytes"),
        (lying(BOMB), "cannot be read"),
        (lying(SENT), "cannot be read"),
        (b"", "cannot be read"),
        (b"not a zip", "cannot be read"),
        (SENT[:-1], "cannot be read"),
        (SENT[: len(SENT) // 2], "cannot be read"),
        (SENT + b"\0" * 65_536, "bytes; this site takes at most 65536"),
    ],
    ids=range(25),
)
def test_a_hostile_bundle_is_refused(content, words):
    with pytest.raises(Refused, match=words) as caught:
        refuse(content)
    assert len(str(caught.value)) < 500


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files_of(SENT).items():
            archive.writestr(name, data)
        archive.writestr(APP, b"")
    with pytest.raises(Refused, match="holds 3 files"):
        refuse(buffer.getvalue())


def test_the_right_bytes_under_another_hash_are_refused():
    for declared in ("0" * 64, OWN.sha256.upper(), OWN.sha256[:8], ""):
        with pytest.raises(Refused, match=f"sha256 is {OWN.sha256}, and the run declares"):
            refuse_other_bundle(OWN, OWN.content, declared)


def test_a_run_of_another_app_is_refused():
    refuse_other_app(OWN, "fedmedlora/fedmedlora-app", "1.0.0")
    for app_id, version in (
        ("fedmedlora/other", "1.0.0"),
        ("fedmedlora/fedmedlora-app", "../.."),
        ("../../tmp/evil", "1.0.0"),
        ("", ""),
    ):
        with pytest.raises(Refused, match=r"this site takes fedmedlora/fedmedlora-app 1.0.0 alone"):
            refuse_other_app(OWN, app_id, version)


@given(st.integers(0, len(SENT) - 1), st.integers(1, 255), st.booleans())
def test_a_damaged_bundle_is_refused_or_says_the_same(place, flip, cut):
    """Whatever happens to a byte, or to the rest after it: no exception but a refusal."""
    damaged = bytearray(SENT)
    damaged[place] ^= flip
    with contextlib.suppress(Refused):
        refuse(bytes(damaged[:place] if cut else damaged))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content):
    with pytest.raises(Refused):
        refuse(content)


def test_a_bomb_is_not_unpacked():
    """20 MB would be seen; what is unpacked is 16 kB."""
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(Refused):
        refuse(BOMB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert len(BOMB) < 65_536


def test_the_pin_is_the_hash_of_the_installed_file():
    found = hashlib.sha256((app_folder() / APP).read_bytes()).hexdigest()
    assert own_bundle(found).pin == OWN.pin == found
    with pytest.raises(ValueError, match=rf"bundle: {'0' * 64} is not the sha256 of .*{found}"):
        own_bundle("0" * 64)

"""What a kit carries beside keys and texts: wheels and a model."""

from __future__ import annotations

import tomllib

import pytest

from fedmedlora.provision.kit import provision
from fedmedlora.provision.payload import Payload


def test_wheels_and_a_model_go_into_every_kit(consortium, kits, now, tmp_path):
    house, model = tmp_path / "house", tmp_path / "model"
    house.mkdir()
    model.mkdir()
    wheels = {
        "fedmedlora-0.9.1-py3-none-any.whl",
        "cryptography-50.0.2-cp311-abi3-manylinux_2_28_x86_64.whl",
        "torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl",
    }
    for name in wheels:
        (house / name).write_bytes(name.encode())
    (house / "notes.txt").write_text("not a wheel")
    for name in ("model.safetensors", "config.json", "pytorch_model.bin"):
        (model / name).write_bytes(name.encode())
    provision(consortium, tmp_path / "bare", now)
    payload = Payload(house, model, "c0ffee" * 10 + "cafe")
    lines = provision(consortium, kits, now, payload=payload)
    for kit in ("lakeside", "northgate", "stonebridge", "coordinator"):
        assert {p.name for p in (kits / kit / "wheels").iterdir()} == wheels
        assert {p.name for p in (kits / kit / "model").iterdir()} == {"model.safetensors", "config.json"}
        readme = (kits / kit / "README.md").read_text()
        assert "pip install --no-index --find-links wheels 'fedmedlora[flower]==0.9.1'" in readme
        assert "python3.12 -m venv .venv" in readme  # torch's wheel is for that one alone
        assert ["Python 3.12" in readme, "Python 3.11" in readme] == [True, False]
        bare = (tmp_path / "bare" / kit / "README.md").read_text()
        assert ["kit came without them" in one for one in (readme, bare)] == [False, True]
        assert "pip install --no-index --find-links wheels" in bare
    # On one disk there is one copy.
    assert (kits / "lakeside" / "model" / "model.safetensors").samefile(model / "model.safetensors")
    found = tomllib.loads((kits / "lakeside" / "site.toml").read_text())
    assert found["model"]["name"] == "model"
    assert (found["coordinator"]["model_hash"], found["coordinator"]["version"]) == (
        "c0ffee" * 10 + "cafe",
        "0.9.1",
    )
    assert {"lakeside/wheels/", "lakeside/model/"} <= {line.where for line in lines if line.what == "made"}
    assert "made" not in {line.what for line in provision(consortium, kits, now, payload=payload)}


def test_a_wheelhouse_without_our_wheel_is_refused(consortium, kits, now, tmp_path):
    (tmp_path / "house").mkdir()
    with pytest.raises(ValueError, match="holds no wheel of fedmedlora"):
        provision(consortium, kits, now, payload=Payload(wheelhouse=tmp_path / "house"))
    with pytest.raises(ValueError, match=r"holds no \*\.safetensors"):
        provision(consortium, kits, now, payload=Payload(model=tmp_path / "house"))
    assert not kits.exists()


def test_a_wheelhouse_of_two_versions_is_refused(consortium, kits, now, tmp_path):
    """In the order of their names 0.9.0 comes last, and would be what the kits ask for."""
    for number in ("0.10.0", "0.9.0"):
        (tmp_path / f"fedmedlora-{number}-py3-none-any.whl").touch()
    with pytest.raises(ValueError, match=r"several versions of fedmedlora \(0\.10\.0, 0\.9\.0\)"):
        provision(consortium, kits, now, payload=Payload(wheelhouse=tmp_path))
    assert not kits.exists()
    (tmp_path / "fedmedlora-0.9.0-py3-none-any.whl").unlink()
    assert Payload(wheelhouse=tmp_path).version() == "0.10.0"


def test_a_wheelhouse_of_two_pythons_is_refused(consortium, kits, now, tmp_path):
    for name in ("fedmedlora-0.9.1-py3-none-any", "a-1-cp311-cp311-linux", "b-1-cp312-cp312-linux"):
        (tmp_path / f"{name}.whl").touch()
    with pytest.raises(ValueError, match=r"several Pythons \(3\.11, 3\.12\)"):
        provision(consortium, kits, now, payload=Payload(wheelhouse=tmp_path))
    assert not kits.exists()


def test_files_are_copied_where_they_cannot_be_linked(consortium, kits, now, tmp_path, monkeypatch):
    from fedmedlora.provision import payload

    def refuses(*args):
        raise OSError("another disk")

    house = tmp_path / "house"
    house.mkdir()
    (house / "fedmedlora-0.9.1-py3-none-any.whl").write_bytes(b"1")
    monkeypatch.setattr(payload, "os", type("NoLinks", (), {"link": staticmethod(refuses)}))
    provision(consortium, kits, now, payload=Payload(house))
    copy = kits / "lakeside" / "wheels" / "fedmedlora-0.9.1-py3-none-any.whl"
    assert copy.read_bytes() == b"1"
    (house / copy.name).write_bytes(b"2")  # another build of the same version, as long as the first
    provision(consortium, kits, now, payload=Payload(house))
    assert copy.read_bytes() == b"2"

"""``provision``, ``site`` and ``coordinator`` as they are typed: files, words, exit codes."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.cli import main
from fedmedlora.flower.loopback import free_port
from fedmedlora.provision.keys import fingerprint, public_of

TOML = """\
name = "Two hospitals"
[coordinator]
address = "127.0.0.1:{port}"
[[sites]]
name = "lakeside"
[[sites]]
name = "northgate"
"""


@pytest.fixture
def call(capsys):
    """``call(words)`` -> (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "consortium.toml"
    path.write_text(TOML.format(port=free_port()))
    return path


def test_a_key_pair_is_made_once(call, tmp_path):
    folder = tmp_path / "site-kit"
    code, out, _ = call("site", "keygen", "--out", folder, "--name", "lakeside")
    assert code == 0
    private, public = (folder / "site.key").read_bytes(), (folder / "site.pub").read_bytes()
    assert public_of(private, "lakeside") == public
    assert fingerprint(public) in out
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("site.key", "site.pub")] == [0o600] * 2
    code, again, _ = call("site", "keygen", "--out", folder, "--name", "lakeside")
    assert code == 0
    assert "nothing overwrites a key" in again
    assert (folder / "site.key").read_bytes() == private
    (folder / "site.pub").unlink()
    assert call("site", "keygen", "--out", folder, "--name", "lakeside")[0] == 0
    assert (folder / "site.pub").read_bytes() == public


def test_halves_that_do_not_fit_are_refused(call, tmp_path):
    for name in ("a", "b"):
        assert call("site", "keygen", "--out", tmp_path / name)[0] == 0
    (tmp_path / "a" / "site.pub").write_bytes((tmp_path / "b" / "site.pub").read_bytes())
    code, _, err = call("site", "keygen", "--out", tmp_path / "a")
    assert code == 2
    assert "not the public half" in err
    (tmp_path / "a" / "site.key").unlink()
    code, _, err = call("site", "keygen", "--out", tmp_path / "a")
    assert code == 2
    assert "without its private half" in err
    assert not (tmp_path / "a" / "site.key").exists()


def test_kits_are_made_and_made_again(call, toml, tmp_path):
    code, out, _ = call("provision", toml, "--out", tmp_path / "kits")
    assert code == 0
    assert f"made     {tmp_path / 'kits' / 'lakeside' / 'site.key'}" in out
    assert "authority stays here" in out
    code, out, _ = call("provision", toml, "--out", tmp_path / "kits", "--renew")
    assert code == 0
    assert "server.crt: renewed" in out
    assert f"kept     {tmp_path / 'kits' / 'lakeside' / 'site.key'}" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[allows]\nmax_rnk = 8\n", r"consortium.toml: [allows] max_rnk: unknown key; did you mean max_rank"),
        ("[allows]\nmax_rank = 0\n", "max_rank: 0 is out of range"),
        ('[[sites]]\nname = "Lakeside"\n', "two are named 'Lakeside'"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_before_anything_is_written(call, toml, tmp_path, more, message):
    toml.write_text(toml.read_text() + more)
    code, out, err = call("provision", toml, "--out", tmp_path / "kits")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "kits").exists()


def test_a_model_goes_along_with_its_hash(call, toml, tmp_path, model_folders):
    from fedmedlora.flower.checks.base_model import check_base_model
    from fedmedlora.flower.site_file import load_site_file

    assert call("provision", toml, "--out", tmp_path / "kits", "--model", model_folders["llama"])[0] == 0
    site = load_site_file(tmp_path / "kits" / "lakeside" / "site.toml")
    found = check_base_model(site)
    assert (found.ok, found.advice) == (True, "")
    code, _, err = call("provision", toml, "--out", tmp_path / "other", "--model", tmp_path)
    assert code == 2
    assert "holds no *.safetensors" in err


def test_site_check_ends_with_1_where_something_is_wrong(call, toml, tmp_path, model_folders, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as the command sets it, but for this test alone
    assert call("provision", toml, "--out", tmp_path / "kits", "--model", model_folders["llama"])[0] == 0
    code, out, _ = call("site", "check", tmp_path / "kits" / "lakeside" / "site.toml")
    assert code == 1
    lines = out.splitlines()
    failed = [line.split()[1] for line in lines if line.startswith("FAILED")]
    assert failed == ["address", "training"]  # nobody listens, and there are no notes yet
    assert [line for line in lines if line.startswith("ok      key")]
    assert lines[-1] == "2 to see to: address, training notes"
    # With no open way to the coordinator, certificate and clock would only repeat that.
    assert "certificate  " not in out
    code, out, err = call("site", "check", tmp_path / "nowhere.toml")
    assert (code, out) == (2, "")
    assert "cannot be read" in err


def test_a_coordinator_that_does_not_run(call, toml, tmp_path):
    assert call("provision", toml, "--out", tmp_path / "kits")[0] == 0
    file = tmp_path / "kits" / "coordinator" / "coordinator.toml"
    code, out, _ = call("coordinator", "status", file, "--json")
    found = json.loads(out)
    assert (code, found["pid"], found["answers"]) == (0, 0, False)
    assert [site["name"] for site in found["sites"]] == ["lakeside", "northgate"]
    code, out, _ = call("coordinator", "status", file)
    assert "does not run" in out
    assert "lakeside     not known: SuperLink would say" in out
    assert call("coordinator", "stop", file)[1] == "it was not running\n"


def test_a_full_disk_under_a_coordinators_state_is_waited_out(call, toml, tmp_path, monkeypatch):
    """Twice there is no room for its process id; then the folder is one that it may not write to."""
    from fedmedlora.flower import may_pass

    assert call("provision", toml, "--out", tmp_path / "kits")[0] == 0
    file = tmp_path / "kits" / "coordinator" / "coordinator.toml"
    ends = [errno.ENOSPC, errno.ENOSPC, errno.EACCES]

    def no_room(descriptor: int) -> None:
        number = ends.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(may_pass, "AGAIN_S", 0.0)
    monkeypatch.setattr(os, "fsync", no_room)
    code, out, err = call("coordinator", "start", file)
    assert (code, out, ends) == (2, "", [])
    assert err.count("No space left on device; it is tried again in 0 s\n") == 2
    assert err.endswith("Permission denied\n")


def test_a_study_file_that_is_not_there_is_for_a_person(call, toml, tmp_path):
    assert call("provision", toml, "--out", tmp_path / "kits")[0] == 0
    file = tmp_path / "kits" / "coordinator" / "coordinator.toml"
    code, _, err = call("coordinator", "start", file, "--study", tmp_path / "none.toml", "--out", tmp_path)
    assert code == 2
    assert "none.toml" in err

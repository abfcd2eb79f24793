"""``fedmedlora audit``: what is printed, and the exit status."""

from __future__ import annotations

import pytest

from fedmedlora.audit.entries import Fault, Refusal
from fedmedlora.audit.log_file import AuditLog
from fedmedlora.cli import main

FAULT = Fault("failed", "", "", "", "ValueError")


def call(capsys, *argv: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["audit", *map(str, argv)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append(FAULT, Refusal("train", "lakeside", "", "will not — <b> oops"))
    return log


def test_a_whole_log(log, capsys):
    code, out, err = call(capsys, "verify", log.path)
    assert (code, err) == (0, "")
    head = log.head().hash
    assert out.splitlines()[:2] == ["3 entries, each as it was written, in its place", f"head {head}"]
    assert "cut off at the end" in out
    log.append(FAULT)
    code, out, _ = call(capsys, "verify", log.path, "--head", head)
    assert code == 0
    assert "the head that is known is that of entry 3" in out


def test_a_changed_log_is_exit_1_and_names_the_line(log, capsys):
    head = log.head().hash
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(lines[0] + lines[2])
    code, out, err = call(capsys, "verify", log.path)
    assert (code, out) == (1, "line 2: entry 2 is missing before it\n")
    assert "not what was written" in err
    log.path.write_bytes(lines[0] + lines[1])
    assert call(capsys, "verify", log.path)[0] == 0
    code, out, _ = call(capsys, "verify", log.path, "--head", head)
    assert (code, out[:7]) == (1, "line 2:")


def test_a_log_is_named_by_the_folder_of_its_run_too(log, capsys):
    for what in ("verify", "show"):
        assert call(capsys, what, log.path.parent) == call(capsys, what, log.path)


def test_what_cannot_be_verified_is_exit_2(log, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for argv in (
        ["verify", tmp_path / "absent.jsonl"],
        ["verify", tmp_path / "empty"],
        ["verify", log.path, "--head", "abc"],
        ["show", tmp_path / "absent.jsonl"],
        ["passport", tmp_path],
        ["passport", tmp_path, "--site", "lakeside"],
        ["passport", tmp_path, "--key", tmp_path / "absent.pem"],
    ):
        code, out, err = call(capsys, *argv)
        assert (code, out) == (2, ""), argv
        assert err.startswith("fedmedlora: ")


def test_a_log_to_read_is_ascii(log, capsys):
    code, out, _ = call(capsys, "show", log.path)
    assert code == 0
    assert out.isascii()
    first, fault, refused = out.splitlines()
    assert first.split()[2:4] == ["log", 'format="fedmedlora-audit"']
    assert fault.split()[2:] == ["fault", 'what="failed"', 'error="ValueError"']
    assert refused.endswith('words="will not \\u2014 <b> oops"')
    with log.path.open("ab") as file:
        file.write(b"\x1b[2J\n")
    code, out, err = call(capsys, "show", log.path)
    assert code == 1
    assert out.splitlines()[-1].startswith("line 4: not JSON")
    assert "\x1b" not in out + err

"""The program of a site: what it takes and what it refuses, before anything listens or connects."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower.site_program import POLL_S, main, node_config, refuse_arguments

SITE = 'name = "mercy"\ntrain = "train.jsonl"\n'


@pytest.mark.parametrize(
    "argument",
    [
        "--node-config",
        "--node-config=site='x'",
        "--node-c",
        "--no",
        "--isolation",
        "--iso=process",
        "--allow-runtime-dependency-installation",
        "--allow",
        "--a",
    ],
)
def test_what_would_undo_the_guard_is_refused(argument, tmp_path):
    with pytest.raises(ValueError, match="not taken here"):
        refuse_arguments(["--insecure", argument, "process"])
    site = tmp_path / "site.toml"
    site.write_text(SITE)
    with pytest.raises(SystemExit, match=r"fedmedlora: --.*: not taken here"):
        main(["--site", str(site), argument])


@pytest.mark.parametrize("asked", ["--host 0.0.0.0", "--host=0.0.0.0", "--ho ::", "--host", "--host="])
def test_the_port_of_the_processes_that_answer_stays_on_this_machine(asked):
    refuse_arguments(["--host", "127.0.0.1", "--host=::1"])
    with pytest.raises(ValueError, match="without a password"):
        refuse_arguments(asked.split())


def test_everything_else_is_flowers():
    refuse_arguments(
        [
            "--insecure",
            "--superlink",
            "h:1",
            "--port",
            "1",
            "--root-certificates",
            "ca.pem",
            "--max-retries=3",
        ]
    )
    refuse_arguments(["--auth-supernode-private-key", "key", "--health-server-address", "h:2", "--", ""])
    refuse_arguments([])


def test_the_site_is_named_for_the_processes_that_answer(tmp_path):
    from flwr.common.config import parse_config_args

    folder = tmp_path / "with space, é=1"
    folder.mkdir()
    said = node_config(folder / "site.toml")
    assert parse_config_args([said]) == {"site": str(folder / "site.toml")}
    for odd in ("quote'", 'quote"', "back\\slash", "line\nend"):
        with pytest.raises(ValueError, match="Flower takes no path"):
            node_config(tmp_path / odd / "site.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "name: missing"),
        (SITE + '[coordinator]\nbundle = "' + "0" * 64 + '"\n', "is not the sha256 of"),
    ],
)
def test_what_is_wrong_is_said_before_it_starts(tmp_path, text, words):
    site = tmp_path / "site.toml"
    site.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "fedmedlora.flower.site_program", "--site", str(site), "--insecure"],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("fedmedlora: ")
    assert words in line


LOOKS = """
import importlib, os, sys
cli = importlib.import_module("flwr.supernode.cli.flower_supernode")
def look():
    supernode = importlib.import_module("flwr.supernode.start_client_internal")
    print(type(supernode.time.sleep.__self__).__name__, supernode.subprocess.Popen.__name__)
    print(os.environ["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"], sys.argv[:2])
    sys.exit(0)
cli.flower_supernode = look
from fedmedlora.flower.site_program import main
main(["--site", sys.argv[1], "--insecure"])
"""


@pytest.mark.parametrize("given", [{}, {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "7"}])
def test_what_flower_s_program_finds(tmp_path, given):
    """Patience, a SuperExec of ours that asks more often than Flower's, unless somebody chose."""
    site = tmp_path / "site.toml"
    site.write_text(SITE)
    done = subprocess.run(
        [sys.executable, "-c", LOOKS, str(site)],
        env={**os.environ, **given}, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "Patience start_superexec",
        f"{given.get('FLWR_SUPEREXEC_TASK_POLL_INTERVAL', POLL_S)} ['flower-supernode', '--insecure']",
    ]

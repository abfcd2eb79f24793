"""What a site's terminal says of its SuperNode, out of what Flower writes into the log."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower import join
from fedmedlora.flower.join import SILENT_S, _Watch
from fedmedlora.flower.site_program import ANSWERS, SILENT
from fedmedlora.flower.supervise import Kept, Program

CONNECTED = "INFO :      SuperNode ID: 4711\n"
LEFT = "INFO :      SuperNode terminated gracefully.\n"
DOWN, UP = f"{SILENT}\n", f"{ANSWERS}\n"


@pytest.fixture
def said_of(tmp_path):
    """``said_of(log, ...)``: what is told of starts that wrote those logs, one after the other."""

    def run(*logs: str) -> list[str]:
        told: list[str] = []
        kept = Kept(Program("SuperNode", (), {}, tmp_path / "log"), told.append)
        watch = _Watch(kept, "coordinator.example:8000", told.append)
        with kept.program.log.open("w") as file:
            for log in logs:
                kept.num_starts += 1
                kept.log_from = file.tell()
                watch.look()
                file.write(log)
                file.flush()
                watch.look()
        return told

    return run


def test_a_site_that_is_connected_says_so_once_for_each_start(said_of):
    """That its SuperNode ended is told as well; whoever reads that wants to know whether it is back."""
    assert said_of(CONNECTED) == ["connected to coordinator.example:8000"]
    assert said_of(CONNECTED, CONNECTED) == ["connected to coordinator.example:8000"] * 2


def test_a_signature_that_is_not_accepted_is_told_though_flower_is_silent(said_of):
    """A clock that is off by ten minutes: Flower gets a 401 and ends as if it had been told to."""
    (told,) = said_of("INFO :      Starting Flower SuperNode\n" + LEFT, LEFT)
    assert told.startswith("the coordinator does not accept the signature: a clock that is minutes wrong")


def test_a_site_that_was_connected_and_then_is_refused_is_told_both(said_of):
    told = said_of(CONNECTED + LEFT, LEFT)
    assert [words.split()[0] for words in told] == ["connected", "the"]


def test_a_coordinator_that_does_not_answer_is_told_once(tmp_path):
    told: list[str] = []
    now = [0.0]
    kept = Running(Program("SuperNode", (), {}, tmp_path / "log"), told.append)
    kept.program.log.write_text("INFO :      Starting Flower SuperNode\n")
    watch = _Watch(kept, "coordinator.example:8000", told.append, clock=lambda: now[0])
    silent, connected = (
        "coordinator.example:8000 has not answered in 30 s",
        "connected to coordinator.example:8000",
    )
    for kept.num_starts, now[0], log, heard in (
        (1, 100.0, "", []),
        (1, 100.0 + SILENT_S, "", []),
        (2, 101.0 + SILENT_S, "", []),  # started again: from there
        (2, 102.0 + 2 * SILENT_S, "", [silent]),
        (2, 102.0 + 4 * SILENT_S, "", [silent]),
        (2, 103.0 + 4 * SILENT_S, CONNECTED, [silent, connected]),
        (3, 104.0 + 4 * SILENT_S, "", [silent, connected]),
        (3, 105.0 + 5 * SILENT_S, "", [silent, connected, silent]),
    ):
        kept.program.log.write_text(log)
        watch.look()
        assert [words.split(";")[0] for words in told] == heard


@pytest.fixture
def watched(tmp_path):
    """A ``_Watch``, what it tells, and ``at(seconds, log)``, which writes on into the log and looks."""
    now, told = [0.0], list[str]()
    kept = Running(Program("SuperNode", (), {}, tmp_path / "log"), told.append, num_starts=1)
    watch = _Watch(kept, "coordinator.example:8000", told.append, clock=lambda: now[0])

    def at(seconds: float, log: str = "") -> list[str]:
        """The first words of what has been told so far."""
        now[0] = seconds
        with kept.program.log.open("a") as file:
            file.write(log)
        watch.look()
        return [words.split(";")[0].replace("coordinator.example:8000", "it") for words in told]

    return watch, at


ON, OFF = "connected to it", "it has not answered in 30 s"


def test_a_connection_that_is_lost_for_longer_is_told_and_that_it_is_back(watched):
    _, at = watched
    assert at(0, CONNECTED) == [ON]
    assert at(100, DOWN) == [ON]
    assert at(110, UP) == [ON]  # a hiccup
    assert at(200, DOWN) == [ON]
    assert at(201 + SILENT_S) == [ON, OFF]
    assert at(300, UP[:30]) == [ON, OFF]  # half a line
    assert at(301, UP[30:]) == [ON, OFF, ON]
    assert at(400) == [ON, OFF, ON]
    assert at(500, DOWN) == [ON, OFF, ON]
    assert at(501 + SILENT_S) == [ON, OFF, ON, OFF]  # the second time as well


def test_a_supernode_that_ends_again_and_again_because_nobody_answers(watched):
    """As with a web proxy that refuses each time: no start lasts for long enough by itself."""
    watch, at = watched
    at(0, CONNECTED)
    at(100, DOWN)
    for seconds in range(105, 110 + int(SILENT_S), 5):
        watch.kept.num_starts += 1
        watch.kept.log_from = watch._read_to
        watch.kept.is_running = False
        told = at(seconds, DOWN + LEFT)
    assert told == [ON, OFF]
    watch.kept.num_starts += 1
    assert at(200, CONNECTED) == [ON, OFF, ON]


def test_a_signature_that_is_not_accepted_by_a_coordinator_that_was_not_there_at_first(watched):
    """Found with a clock that was off by ten minutes, where all programs started together."""
    watch, at = watched
    at(0, DOWN + LEFT)
    watch.kept.num_starts += 1
    watch.kept.log_from = watch._read_to
    (told,) = at(5, UP + LEFT)
    assert told.startswith("the coordinator does not accept the signature: a clock that is minutes wrong")


def test_a_log_that_somebody_has_emptied_is_read_from_its_beginning(watched):
    watch, at = watched
    at(0, "Starting Flower SuperNode\n" * 10)
    watch.kept.program.log.write_text("")
    assert at(1, CONNECTED) == [ON]


def test_a_log_that_cannot_be_read_ends_no_site(watched):
    """Whatever the watch raised would stop the SuperNode."""
    watch, at = watched
    at(0, CONNECTED)
    watch.kept.program.log.unlink()
    watch.kept.program.log.mkdir()
    watch.look()


def test_no_word_is_lost_where_the_log_is_read_in_pieces(watched, monkeypatch):
    monkeypatch.setattr(join, "_MOST_READ_BYTES", 64)
    _, at = watched
    at(0, "x" * 200 + "\n" + "y" * 40 + "\n" + CONNECTED)
    assert [at(1) for _ in range(6)][-1] == [ON]


def test_what_a_clientapp_is_refused_is_no_trouble_of_the_site(said_of):
    """Flower writes a 401 of its own, within the machine, into the same log when a run ends early."""
    refused = (
        "ERROR : Failed to push task output: Client error '401 Unauthorized' for url 'http://127.0.0.1'\n"
    )
    assert said_of(CONNECTED + refused) == ["connected to coordinator.example:8000"]


def test_a_start_needs_no_torch():
    """What keeps a SuperNode running stays for weeks, and would take a quarter of a gigabyte for nothing."""
    code = "import sys, fedmedlora.flower.join; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Running(Kept):
    """One that runs, for all that is known here."""

    is_running = True


def test_a_key_that_is_not_registered(said_of):
    (told,) = said_of("ERROR : [code: 2004] activation failed\n" + LEFT)
    assert "does not take this site's key" in told

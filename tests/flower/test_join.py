"""What a site's terminal says of its SuperNode, out of what Flower writes into the log."""

from __future__ import annotations

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower.join import SILENT_S, _Watch
from fedmedlora.flower.supervise import Kept, Program

CONNECTED = "INFO :      SuperNode ID: 4711\n"
LEFT = "INFO :      SuperNode terminated gracefully.\n"
FAILED = "WARNING :   Connection attempt failed, retrying in 4.12 seconds\n"
AGAIN = "INFO :      Connection successful after 61.20 seconds and 9 tries.\n"


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


def test_a_connection_that_is_lost_for_longer_is_told_and_that_it_is_back(tmp_path):
    told: list[str] = []
    now = [0.0]
    kept = Running(Program("SuperNode", (), {}, tmp_path / "log"), told.append, num_starts=1)
    watch = _Watch(kept, "coordinator.example:8000", told.append, clock=lambda: now[0])
    connected = "connected to coordinator.example:8000"
    silent = "coordinator.example:8000 has not answered in 30 s"
    for now[0], log, heard in (
        (0.0, CONNECTED, [connected]),
        (100.0, FAILED, [connected]),
        (110.0, AGAIN, [connected]),  # a hiccup
        (200.0, FAILED, [connected]),
        (215.0, FAILED, [connected]),
        (201.0 + SILENT_S, "", [connected, silent]),
        (300.0, FAILED, [connected, silent]),
        (310.0, AGAIN[:30], [connected, silent]),  # half a line
        (311.0, AGAIN[30:], [connected, silent, connected]),
        (400.0, "", [connected, silent, connected]),
    ):
        with kept.program.log.open("a") as file:
            file.write(log)
        watch.look()
        assert [words.split(";")[0] for words in told] == heard


def test_what_a_clientapp_is_refused_is_no_trouble_of_the_site(said_of):
    """Flower writes a 401 of its own, within the machine, into the same log when a run ends early."""
    refused = (
        "ERROR : Failed to push task output: Client error '401 Unauthorized' for url 'http://127.0.0.1'\n"
    )
    assert said_of(CONNECTED + refused) == ["connected to coordinator.example:8000"]


class Running(Kept):
    """One that runs, for all that is known here."""

    is_running = True


def test_a_key_that_is_not_registered(said_of):
    (told,) = said_of("ERROR : [code: 2004] activation failed\n" + LEFT)
    assert "does not take this site's key" in told

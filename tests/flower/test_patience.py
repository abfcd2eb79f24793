"""How long the loops of a site's programs sleep, in Flower's own code."""

from __future__ import annotations

import importlib
import time

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

from fedmedlora.flower.patience import LEAST_S, Patience, install_patience
from fedmedlora.flower.superexec import ReadyExecutor, install_superexec

SUPERNODE = "flwr.supernode.start_client_internal"
SUPEREXEC = "flwr.supercore.superexec.run_superexec"


class Clock:
    """Seconds that pass while something sleeps on it, and no others."""

    def __init__(self) -> None:
        self.now_s, self.slept = 100.0, []

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_wait_is_a_tenth_of_what_was_waited_and_never_longer_than_usual(clock):
    patience = Patience(clock.sleep, clock.now)
    while clock.now_s < 200:
        before = clock.now_s - 100
        patience.sleep(3.0)
        assert clock.slept[-1] == pytest.approx(min(3.0, max(LEAST_S, before / 10)))
    assert clock.slept[0] == LEAST_S
    assert clock.slept[-1] == 3.0
    # Some 47 in the first half minute, and then as many as Flower's own.
    assert len(clock.slept) == 70


def test_nobody_waits_longer_than_flower_would(clock):
    patience = Patience(clock.sleep, clock.now)
    clock.now_s += 1000
    for seconds in (0.05, 0.5, 3.0):
        patience.sleep(seconds)
        assert clock.slept[-1] <= seconds


def test_who_waits_for_something_else_starts_over(clock):
    patience = Patience(clock.sleep, clock.now)
    clock.now_s += 1000
    patience.sleep(3.0)
    assert clock.slept == [LEAST_S]  # the first sleep of its kind
    clock.now_s += 1000
    for seconds in (3.0, 0.5, 0.5, 3.0):  # nothing, an answer that is not there yet, twice, and nothing again
        patience.sleep(seconds)
    assert clock.slept[1:] == [3.0, LEAST_S, LEAST_S, LEAST_S]
    clock.now_s += 1000
    patience.start_over()
    patience.sleep(3.0)
    assert clock.slept[-1] == LEAST_S


@pytest.fixture
def of_flower(monkeypatch, clock):
    """Flower's own modules, put back afterwards, with patience by ``clock``."""
    from fedmedlora.flower import patience

    monkeypatch.setattr(patience, "Patience", lambda: Patience(clock.sleep, clock.now))
    modules = {name: importlib.import_module(name) for name in (SUPERNODE, SUPEREXEC)}
    for module in modules.values():
        monkeypatch.setattr(module, "time", time)
    monkeypatch.setattr(modules[SUPERNODE], "subprocess", modules[SUPERNODE].subprocess)
    return modules


class EnoughError(Exception):
    """Ends a loop that has no end."""


def test_flower_s_supernode_waits_so(of_flower, clock):
    """For an answer, in its own loop; that it waits for questions in the same way is in the same module."""
    install_superexec()

    class State:
        """Of which no answer comes, fifty times."""

        left = 50

        def get_messages_legacy(self, is_reply):
            self.left -= 1
            if not self.left:
                raise EnoughError
            return []

    with pytest.raises(EnoughError):
        of_flower[SUPERNODE]._push_messages(State(), None, None, None)
    assert len(clock.slept) == 49
    assert clock.slept[0] == LEAST_S
    assert max(clock.slept) == 0.5
    assert of_flower[SUPERNODE].time.monotonic is time.monotonic
    assert "time" in of_flower[SUPERNODE].start_client_internal.__code__.co_names


def test_flower_s_superexec_waits_so_and_starts_over_with_a_launch(of_flower, clock, monkeypatch):
    """Its loop speaks to a SuperNode and is not run here; it sleeps by these names of its module."""
    running = of_flower[SUPEREXEC]
    patience = install_patience(SUPEREXEC)
    assert {"time", "sleep"} <= set(running.run_superexec.__code__.co_names)
    assert running.run_superexec.__globals__ is vars(running)
    for _ in range(100):
        running.time.sleep(1.0)
    assert (clock.slept[0], clock.slept[-1]) == (LEAST_S, 1.0)

    executor = ReadyExecutor(launched=patience.start_over)
    monkeypatch.setattr(SubprocessExecutor, "launch", lambda self, spec: LaunchResult.accepted())
    executor.launch(
        ExecutionSpec(
            task_type=TaskType.SERVER_APP, runtime_api_address="127.0.0.1:9", token="t", insecure=True,
            root_certificates_path=None, runtime_dependency_install=False, parent_pid=None,
            suppress_output=False, task_id=1,
        )
    )  # fmt: skip
    running.time.sleep(1.0)
    assert clock.slept[-1] == LEAST_S

"""How long a SuperNode sleeps between two looks at what has come, in Flower's own loop."""

from __future__ import annotations

import contextlib
import importlib
import time

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower import patience
from fedmedlora.flower.patience import LEAST_S, SPREAD, SUPERNODE, Patience, install_patience


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


def evenly(low: float, high: float) -> float:
    return (low + high) / 2


@pytest.fixture
def patient(clock) -> Patience:
    return Patience(clock.sleep, clock.now, evenly)


@pytest.mark.parametrize(("usual", "num_in_a_minute"), [(3, 39), (0.5, 137)])
def test_a_wait_is_a_tenth_of_what_was_waited_within_limits(clock, patient, usual, num_in_a_minute):
    while clock.now_s < 160:
        before = clock.now_s - 100
        patient.sleep(usual)
        assert clock.slept[-1] == pytest.approx(min(usual, max(LEAST_S[usual], before / 10)))
    assert (clock.slept[0], clock.slept[-1]) == (LEAST_S[usual], usual)
    assert len(clock.slept) == num_in_a_minute


def test_it_is_spread_and_never_longer_than_flower_s(clock):
    patient = Patience(clock.sleep, clock.now)
    for _ in range(200):
        clock.now_s = 100.0
        patient.sleep(0.5)
        patient.sleep(3)
    fresh = clock.slept[1::2]
    assert min(fresh) >= (1 - SPREAD) * LEAST_S[3]
    assert max(fresh) <= (1 + SPREAD) * LEAST_S[3]
    assert len(set(fresh)) > 100
    clock.now_s += 1000
    for _ in range(50):
        patient.sleep(3)
        assert 3 * (1 - SPREAD) <= clock.slept[-1] <= 3 or clock.slept[-1] == 3


@pytest.mark.parametrize("seconds", [0.01, 1, 10, 20.0])
def test_a_sleep_that_is_not_known_is_left_alone(clock, patient, seconds):
    for _ in range(3):
        patient.sleep(3)
        patient.sleep(seconds)
        assert clock.slept[-1] == seconds
    clock.now_s += 1000
    patient.sleep(3)  # and it is no sign that something came
    assert clock.slept[-1] == 3


def test_who_waits_for_something_else_starts_over(clock, patient):
    for usual in (3, 0.5, 3):
        patient.sleep(usual)
        assert clock.slept[-1] == LEAST_S[usual]
        clock.now_s += 1000
        patient.sleep(usual)
        assert clock.slept[-1] == usual


class EnoughError(Exception):
    """Ends a loop that has no end."""


def test_flower_s_supernode_sleeps_so(clock, monkeypatch):
    """Its own loops: twenty times no message, a message, ten times no answer, and again."""
    supernode = importlib.import_module(SUPERNODE)
    monkeypatch.setattr(supernode, "time", None)  # nobody waits by the clock on the wall
    monkeypatch.setattr(patience, "Patience", lambda: Patience(clock.sleep, clock.now, evenly))
    install_patience()
    assert supernode.time.monotonic is time.monotonic

    came = iter([*[None] * 20, 1, *[None] * 20, 1])
    loop_of_answers = supernode._push_messages

    class State:
        looked = 0

        def set_node_id(self, node_id):
            pass

        def get_messages_legacy(self, is_reply):
            self.looked += 1
            if self.looked % 11 == 0:
                raise EnoughError
            return []

    class Factory:
        objectstore_factory = None
        state = staticmethod(State)
        store = staticmethod(object)

    Factory.objectstore_factory = Factory

    def message(**_):
        with contextlib.suppress(StopIteration):
            return next(came)
        raise EnoughError

    def answers(**of_it):
        with contextlib.suppress(EnoughError):
            loop_of_answers(**of_it)

    monkeypatch.setattr(supernode, "register_signal_handlers", lambda **_: None)
    monkeypatch.setattr(supernode, "_init_connection", lambda **_: contextlib.nullcontext([None] * 8))
    monkeypatch.setattr(supernode, "_pull_and_store_message", message)
    monkeypatch.setattr(supernode, "_push_messages", answers)
    with pytest.raises(EnoughError):
        supernode.start_client_internal(
            state_factory=Factory, server_address="127.0.0.1:9", node_config={}, insecure=True,
            isolation="process",
        )  # fmt: skip
    assert len(clock.slept) == 60
    for start in (0, 30):
        idle, working = clock.slept[start : start + 20], clock.slept[start + 20 : start + 30]
        assert idle[0] == LEAST_S[3]
        assert idle == sorted(idle)
        assert idle[-1] > 1.0
        assert working == [LEAST_S[0.5]] * 10

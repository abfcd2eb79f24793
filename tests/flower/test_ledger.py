"""What a site has trained in all: nobody begins at zero, and nobody goes over the edge."""

from __future__ import annotations

import pytest

from fedmedlora.flower.allows import Allows, Refused
from fedmedlora.flower.ledger import FILE, Ledger


def test_nothing_yet(tmp_path):
    assert Ledger(tmp_path / "state").totals() == (0, 0)
    assert not (tmp_path / "state").exists()


def test_exactly_as_many_steps_as_are_allowed(tmp_path):
    allows = Allows(max_total_steps=10)
    for steps, totals in ((4, (1, 4)), (6, (2, 10))):
        Ledger(tmp_path).charge(steps, allows)
        assert Ledger(tmp_path).totals() == totals  # another process finds it
    with pytest.raises(Refused, match=r"be 11 optimizer steps in all .* at most 10 \(max_total_steps\)"):
        Ledger(tmp_path).charge(1, allows)
    assert Ledger(tmp_path).totals() == (2, 10)  # a refused round is not counted
    Ledger(tmp_path).charge(1, Allows(max_total_steps=11))  # the site has changed its mind


def test_exactly_as_many_rounds_as_are_allowed(tmp_path):
    allows = Allows(max_total_rounds=2)
    for _ in range(2):
        Ledger(tmp_path).charge(1, allows)
    with pytest.raises(Refused, match=r"be 3 rounds in all .* at most 2 \(max_total_rounds\)"):
        Ledger(tmp_path).charge(1, allows)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rounds": 1}', '{"rounds": -1, "steps": 0}', "null"])
def test_a_damaged_file_is_not_taken_for_an_empty_one(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=FILE) as caught:
        Ledger(tmp_path).charge(1, Allows())
    assert not isinstance(caught.value, Refused)  # its words stay at the site
    assert (tmp_path / FILE).read_text() == text

"""A late update, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.late import carried
from fedmedlora.exchange.update import SiteUpdate


def adapter(*values: float) -> Adapter:
    return Adapter({"x": np.array(values, np.float32)})


BASE, CURRENT = adapter(1, 2), adapter(10, 20)
UPDATE = SiteUpdate("a", 3, adapter(1.5, 1), BASE.hash(), 100)


def test_its_change_is_added_to_the_current_adapter_and_counts_for_less():
    found = carried(UPDATE, BASE, CURRENT, 5, 0.5)  # changes (0.5, -1); two rounds late: 100 / 4
    assert found == SiteUpdate("a", 5, adapter(10.5, 19), CURRENT.hash(), 25)
    assert carried(UPDATE, BASE, CURRENT, 4, 1.0).num_target_tokens == 100


def test_it_counts_for_something_unless_there_was_nothing():
    one = SiteUpdate("a", 3, BASE, BASE.hash(), 1)
    assert carried(one, BASE, CURRENT, 9, 0.5).num_target_tokens == 1
    none = SiteUpdate("a", 3, BASE, BASE.hash(), 0)
    assert carried(none, BASE, CURRENT, 9, 0.5).num_target_tokens == 0


def test_of_another_start_or_in_time():
    with pytest.raises(ValueError, match="did not start from the adapter that it was sent"):
        carried(UPDATE, CURRENT, CURRENT, 4, 0.5)
    other = SiteUpdate("a", 3, adapter(1, 2, 3), BASE.hash(), 1)
    with pytest.raises(ValueError, match="did not start from the adapter"):
        carried(other, BASE, CURRENT, 4, 0.5)
    for round_num in (2, 3):
        with pytest.raises(ValueError, match=f"of round 3, not late in {round_num}"):
            carried(UPDATE, BASE, CURRENT, round_num, 0.5)

"""Which arrays travel."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local, is_whole_model, put, rest, take

BOTH = Adapter(
    {
        "m.q.lora_A.weight": np.ones((2, 3), np.float32),
        "m.q.lora_B.weight": np.zeros((4, 2), np.float32),
    }
)


def test_a_part_is_taken_and_put_back():
    for part, other in (("A", "B"), ("B", "A")):
        taken = take(BOTH, part)
        assert list(taken.arrays) == [f"m.q.lora_{part}.weight"]
        assert rest(BOTH, part) == take(BOTH, other)
        assert put(put(BOTH, rest(BOTH, part)), taken) == BOTH
    assert take(BOTH, "both") is BOTH
    changed = Adapter({"m.q.lora_A.weight": np.full((2, 3), 5.0, np.float32)})
    assert put(BOTH, changed).arrays["m.q.lora_A.weight"][0, 0] == 5.0


@pytest.mark.parametrize(("name", "shape"), [("m.q.lora_A.weight", (1, 3)), ("m.k.lora_A.weight", (2, 3))])
def test_what_does_not_fit_is_refused(name, shape):
    with pytest.raises(ValueError, match="does not fit the adapter here"):
        put(BOTH, Adapter({name: np.ones(shape, np.float32)}))


def test_a_whole_model_has_no_factors():
    model = Adapter({"m.q.weight": np.ones((2, 2), np.float32)})
    assert is_whole_model(model)
    assert not is_whole_model(BOTH)
    assert not is_whole_model(take(BOTH, "B"))
    with pytest.raises(ValueError, match="has no factor A"):
        take(model, "A")


def test_what_a_site_keeps():
    assert Local(sends="A").keeps
    assert not Local().keeps
    assert not Local(trains="B", sends="B").keeps
    assert not Local(trains="model", sends="model").keeps


@pytest.mark.parametrize(
    "settings", [{"trains": "model"}, {"sends": "model"}, {"trains": "B"}, {"trains": "B", "sends": "A"}]
)
def test_what_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match="sends"):
        Local(**settings)

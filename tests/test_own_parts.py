"""What sites keep between rounds: which round's, for how long, and of how many runs and methods."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.own_parts import OwnParts

ONE = Adapter({"a": np.array([1.5, -0.0], np.float32)})
TWO = Adapter({"a": np.array([2.5, 3.0], np.float32)})


def test_what_a_site_keeps_is_of_the_last_try(tmp_path):
    own = OwnParts(tmp_path)
    assert (own.latest("fedsa_lora", "a"), own.load("fedsa_lora", "a", 0)) == (None, None)
    for round_num in (1, 2, 3):
        own.save("fedsa_lora", "a", round_num, ONE)
    own.save("fedsa_lora", "b", 3, ONE)
    own.save("fedsa_lora", "a", 1, TWO)
    assert own.load("fedsa_lora", "a", 1) == TWO
    assert own.latest("fedsa_lora", "a") == TWO
    assert own.rounds("fedsa_lora", "a") == [1]
    assert own.load("fedsa_lora", "b", 3) == ONE


def test_what_is_kept_of_another_round_is_no_substitute(tmp_path):
    own = OwnParts(tmp_path)
    own.save("m", "a", 1, ONE)
    with pytest.raises(ValueError, match=r"0002\.safetensors: missing; what the site has learned by itself"):
        own.load("m", "a", 2)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"0001\.safetensors: damaged; what the site has learned by itself"):
        own.latest("m", "a")


def test_what_is_needed_again_is_kept(tmp_path):
    """Rounds 4, 5 and 6, of which 5 came to nothing: 6 begins with what was kept of 4, and may do so
    again."""
    own = OwnParts(tmp_path)
    own.save("m", "a", 4, ONE, beside=2)
    assert own.rounds("m", "a") == [4]
    own.save("m", "a", 5, TWO, beside=4)
    assert own.rounds("m", "a") == [4, 5]
    for _ in range(2):
        own.save("m", "a", 6, TWO, beside=4)
        assert (own.rounds("m", "a"), own.load("m", "a", 4)) == ([4, 6], ONE)
    own.save("m", "a", 1, TWO, beside=0)  # another try of the run
    assert own.rounds("m", "a") == [1]
    own.clear()
    own.clear()  # nothing to remove is fine
    assert own.rounds("m", "a") == []


def test_of_so_many_methods_things_are_kept(tmp_path):
    own = OwnParts(tmp_path, most=2)
    for second, whose in enumerate(("one", "two", "one", "three")):
        own.save(whose, "a", 1, ONE)
        for path in own._folder(whose, "a").parent.rglob("*"):
            os.utime(path, (second, second))
    assert [own.rounds(whose, "a") for whose in ("one", "two", "three")] == [[1], [], [1]]
    own = OwnParts(tmp_path, most=1)
    own.save("one", "a", 2, ONE)  # what is being written stays, whatever a clock says
    assert [own.rounds(whose, "a") for whose in ("one", "three")] == [[1, 2], []]

"""What is let in, one reason after the other; ``tests/test_sites.py`` shows that rounds go on without the
rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.security.admission import Basis, Bounds, NotAdmitted, admit, admit_basis, admit_norm

START = Adapter({"a": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)})


def update(site: str = "lakeside", round_num: int = 2, **arrays: np.ndarray) -> SiteUpdate:
    adapter = Adapter({**START.arrays, **arrays})
    return SiteUpdate(site, round_num, adapter, START.hash(), 7)


def let_in(one: SiteUpdate) -> None:
    admit(one, site="lakeside", round_num=2, started_from=START.hash(), shapes=START.shapes())


def test_the_answer_to_the_question_is_let_in():
    let_in(update())
    let_in(update(a=np.ones((2, 3), np.float32)))


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (update("northgate"), "in the name of 'northgate'"),
        (update(round_num=1), "an update of round 1"),
        (replace(update(), started_from="0" * 64), "it started from adapter 000000000000, the current one"),
        (replace(update(), adapter=Adapter({"a": START.arrays["a"]})), "1 of 2 arrays are missing"),
        (update(c=np.zeros(1, np.float32)), "1 arrays that the adapter does not have"),
        (update(a=np.zeros((3, 2), np.float32)), r"array 'a' has shape \(3, 2\), and not \(2, 3\)"),
        (update(b=np.array([0, np.nan], np.float32)), "array 'b' holds NaN or infinity"),
        (update(b=np.array([-np.inf, 0], np.float32)), "array 'b' holds NaN or infinity"),
    ],
)
def test_anything_else_is_not(one, reason):
    with pytest.raises(NotAdmitted, match=reason):
        let_in(one)


def test_a_name_that_is_not_ours_is_not_repeated():
    """A record and a page show the reason: it says nothing that came over the network."""
    hostile = "<script>\x1b[2J"
    with pytest.raises(NotAdmitted) as caught:
        let_in(update(**{hostile: np.zeros(1, np.float32)}))
    assert "script" not in str(caught.value)


def test_what_it_stands_on():
    own = Basis("a" * 64, "b" * 64, "c" * 64, "d" * 64)
    admit_basis(own, own)
    for what in ("base_model", "tokenizer", "chat_template", "prompts"):
        told = f"another {what.replace('_', ' ')}: sha256 eeeeeeeeeeee, and not {getattr(own, what)[:12]}"
        with pytest.raises(NotAdmitted, match=told):
            admit_basis(replace(own, **{what: "e" * 64}), own)
    with pytest.raises(NotAdmitted, match="does not say"):
        admit_basis(None, own)


def test_bounds():
    admit_norm(3.0, [], Bounds())
    admit_norm(3.0, [], Bounds(max_norm=3.0, max_ratio=1.0))  # the bound itself; nothing to compare with
    with pytest.raises(NotAdmitted, match=r"max_change_norm is 2\.9"):
        admit_norm(3.0, [], Bounds(max_norm=2.9))
    admit_norm(3.0, [1.0, 1.5, 9.0], Bounds(max_ratio=2.0))  # twice the median, which one large one moves not
    with pytest.raises(NotAdmitted, match=r"the median so far is 1\.5, and max_norm_ratio is 2"):
        admit_norm(3.001, [1.0, 1.5, 9.0], Bounds(max_ratio=2.0))

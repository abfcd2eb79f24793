"""Sizes of messages without the messages: the same as of real ones, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter, adapter_bytes
from fedmedlora.exchange.codec import known_codecs
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.sent_update import sent_update_bytes
from fedmedlora.exchange.update import SiteUpdate, update_bytes
from fedmedlora.plan.shapes import find_config, shape_model
from fedmedlora.study_tables import Lora

SHAPES = [
    {"a": (1,)},
    {"b": (2, 3), "a": (4,), "c.lora_A.weight": (16, 576)},
    {
        f"layers.{i}.lora_B.weight": (i + 1, 2) for i in range(120)
    },  # offsets of many digits, names out of order
    {"empty": (0, 5), 'é"\\x': (3,)},
    {"x" * 511: (1, 1, 1)},
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_an_adapter_has_the_size_that_is_predicted(shapes):
    adapter = Adapter({name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    assert adapter_bytes(shapes) == len(adapter.to_bytes())


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(
    ("site", "round_num", "tokens"), [("a", 1, 1), ("st.marys-2", 12, 98_765), ("x" * 40, 100, 10**9)]
)
def test_an_update_has_the_size_that_is_predicted(shapes, site, round_num, tokens):
    adapter = Adapter({name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    update = SiteUpdate(
        site=site, round_num=round_num, adapter=adapter, started_from="0f" * 32, num_target_tokens=tokens
    )
    found = update_bytes(shapes, site=site, round_num=round_num, num_target_tokens=tokens)
    assert found == len(update.to_bytes())


def test_the_table_of_codecs_says_what_is_predicted():
    page = (Path(__file__).parents[2] / "docs" / "codecs.md").read_text(encoding="utf-8")
    models = ("smollm2-135m", "llama-3-8b")
    shapes = [shape_model(find_config(name, ""), Lora(), "float32").adapter for name in models]
    rows = re.findall(r"^\| `(\w+)`(?:, ([\d.]+))? \| ([\d,]+) \| ([\d,]+) \|", page, re.MULTILINE)
    assert {name for name, *_ in rows} == set(known_codecs())
    for name, share, *told in rows:
        codec = Exchange(name, top_k_share=float(share or 0.05)).up()
        found = [
            sent_update_bytes(codec, of, site="lakeside", round_num=1, num_target_tokens=100_000)
            for of in shapes
        ]
        assert found == [int(one.replace(",", "")) for one in told], name

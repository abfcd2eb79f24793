"""The page on aggregation says what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from fedmedlora.aggregation.combined import Combines
from fedmedlora.aggregation.rule import known_rules, load_rule

PAGE = Path(__file__).parents[2] / "docs" / "aggregation.md"


def test_the_examples_of_the_page_run():
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert attempted > 10
    assert failed == 0


def test_the_page_names_every_rule():
    named = set(re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert set(known_rules()) <= named
    # Every rule that tells figures is one of those that withstand bad sites.
    assert {name for name in known_rules() if isinstance(load_rule(name), Combines)} <= named

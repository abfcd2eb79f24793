"""Rules that need so many sites, in studies that have them and in studies that have not."""

from __future__ import annotations

import re

import pytest

from fedmedlora.study import parse_study

TWO = 'name = "s"\nmethods = ["trimmed_mean"]\n' + "".join(
    f'[[sites]]\nname = "{name}"\ntrain = "{name}.jsonl"\n' for name in "ab"
)
KRUM = 'name = "s"\nmethods = ["krum"]\n' + "".join(
    f'[[sites]]\nname = "{name}"\ntrain = "{name}.jsonl"\ntest = "{name}.test.jsonl"\n' for name in "abcde"
)


@pytest.mark.parametrize(
    "more",
    [
        "",
        "[rules.krum]\nnum_bad = 0\n[training]\nparticipation = 0.6",  # three of five
        "[training]\nparticipation = 0.85",  # five, for shares are rounded up
        "[rules.krum]\nnum_bad = 2\n[federation]\nnum_sites = 7",
    ],
)
def test_a_rule_that_has_enough_sites_is_taken(more):
    assert parse_study(KRUM + more)[0].rule_names() == ("krum",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TWO,
            "trimmed_mean withstands what it should in rounds of 3",
        ),
        (
            KRUM + "[rules.krum]\nnum_bad = 2",
            "krum withstands what it should in rounds of 7 sites or more, and",
        ),
        (
            KRUM + "[training]\nparticipation = 0.8",
            "none has more than 4; change [rules.krum], or take it out",
        ),
        (KRUM + "[federation]\nnum_sites = 4", "none has more than 4"),
        (KRUM + "[rules.krum]\nnum_bad = 0.5", "study.toml: rule krum: num_bad must be a whole number"),
        (KRUM + "[rules.krum]\nbad = 1", "rule krum: unknown setting 'bad'; did you mean num_bad?"),
    ],
)
def test_a_rule_that_never_has_enough_sites_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_study(text)


def test_a_round_with_few_sites_is_no_reason_to_refuse():
    # Four are there in round 2, and five in the others.
    away = KRUM.replace('name = "e"', 'name = "e"\nabsent_rounds = [2]')
    assert parse_study(away + "[training]\nrounds = 3")[0].rule_names() == ("krum",)

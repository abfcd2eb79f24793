"""The tables of ``docs/study-file.md``: every key of a study file, as Markdown."""

from __future__ import annotations

from fedmedlora.aggregation.rule import known_rules, load_rule
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.settings import reference, reference_table
from fedmedlora.study import Study
from fedmedlora.study_rounds import Rounds
from fedmedlora.study_tables import (
    Adaptation,
    Arm,
    Cohort,
    Encoder,
    Evaluation,
    Federation,
    FewShot,
    Lora,
    Model,
    Site,
    Tasks,
    Training,
    Validation,
)


def reference_page() -> str:
    """The tables of ``docs/study-file.md``: every key with its type, default and meaning, as Markdown."""
    parts = [
        ("The study itself (before any table)", Study),
        ("`[model]`", Model),
        ("`[adapter]`", Lora),
        ("`[tasks]`", Tasks),
        ("`[training]`", Training),
        ("`[exchange]`", Exchange),
        ("`[rounds]`", Rounds),
    ]
    for name in known_rules():
        parts.append((f"`[rules.{name}]`", type(load_rule(name))))
    parts += [
        ("`[validation]`", Validation),
        ("`[evaluation]`", Evaluation),
        ("`[federation]`", Federation),
        ("`[few_shot]`", FewShot),
        ("`[encoder]`", Encoder),
        ("`[endpoint]`", Endpoint),
        ("`[adaptation]`", Adaptation),
        ("`[[sites]]`, once per site", Site),
        ("`[[cohorts]]`, once per cohort", Cohort),
        ("`[[arms]]`, once per arm", Arm),
    ]
    lines = []
    for title, cls in parts:
        if reference(cls):
            lines += [f"## {title}", "", *reference_table(cls), ""]
    return "\n".join(lines)

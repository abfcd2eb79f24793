"""Results in somebody's own schema: many labels, long ones, and labels that no schema would allow."""

import copy

import pytest

from fedmedlora.report.page import page_text
from fedmedlora.report.results import validate

MANY = tuple(f"A_rather-long_label_of_a_foreign_schema{i:02}"[-40:] for i in range(60))
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a&b",
    "\u202egnp",
    "x" * 5000,
    "{{7}}",
)


def renamed(results, labels):
    """``results`` with ``labels`` for the types: the numbers of the first type, then zeros."""
    zero = {"tp": 0, "fp": 0, "fn": 0, "precision": None, "recall": None, "f1": None}
    found = copy.deepcopy(results)
    for cohort in found["cohorts"]:
        cohort["annotates"] = {"entities": list(labels), "pairs": [f"{e}.x" for e in labels]}
        cohort["not_expressible"] = {"entity: discontinuous": 3}
    for method in found["methods"]:
        for evaluation in method["evaluations"]:
            for score in evaluation["scores"].values():
                for numbers in (score or {}).values():
                    old = list(numbers["per_type"].values())
                    assert len(labels) >= len(old)
                    fillers = [dict(zero) for _ in labels[len(old) :]]
                    numbers["per_type"] = dict(zip(labels, [*old, *fillers], strict=True))
    return found


@pytest.mark.parametrize("labels", [MANY, HOSTILE], ids=["many", "hostile"])
def test_any_labels(results, labels):
    found = renamed(results, labels)
    validate(found)
    page = page_text(found)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    if labels is MANY:
        for label in MANY:
            assert page.count(label) >= len(found["cohorts"])
        table = page[page.index("types-entities-0") :]
        assert table[: table.index("</table>")].count("<tr") >= 60

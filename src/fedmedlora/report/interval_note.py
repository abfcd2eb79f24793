"""Why some scores stand without an interval: said once, under what shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedmedlora.evaluation.bootstrap import MIN_NOTES


def interval_note(
    results: Mapping[str, Any], entries: Iterable[Mapping[str, Any] | None], what: str = "notes"
) -> str:
    """A sentence; "" where every one of ``entries`` that has an F1 has an interval. ``what``: is drawn again.

    ``results``: of a run or a study, whose settings say whether intervals were asked for.
    """
    if not any(one and one["f1"] is not None and one["interval"] is None for one in entries):
        return ""
    if results["study"].get("evaluation", {}).get("bootstrap") == 0:
        return "There are no intervals: the study asks for none (evaluation: bootstrap = 0)."
    of_a_mean = " (of a mean: in one of its cohorts)" if "seeds" in results else ""
    return (
        f"A score without an interval rests on fewer than {MIN_NOTES} {what} with anything to "
        f"count{of_a_mean}, which are too few for one of 95%."
    )

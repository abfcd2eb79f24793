"""A site's answers, read strictly: numbers and known labels, or an error that names the site."""

from __future__ import annotations

import math
import re
from collections.abc import Set
from dataclasses import fields
from typing import Any

from fedmedlora.corpora.jsonl import annotates_from_json
from fedmedlora.corpora.note import Annotates
from fedmedlora.exchange.update import check_site_name
from fedmedlora.flower.messages import BASIS, MOST, Letter
from fedmedlora.results.check import check_cohort, check_evaluation
from fedmedlora.security.admission import Basis
from fedmedlora.sites import SiteInfo

_MAX_COMBINATIONS = 1000
_HASH = re.compile(r"[0-9a-f]{64}")


def site_info(answer: Letter) -> SiteInfo:
    """What a site said about itself. Raises ``ValueError`` for anything but names, counts and costs."""
    name = answer.text("name")
    check_site_name(name)
    place = f"site {name!r}: description"
    record = answer.table("record")
    check_cohort(record, place)
    if record["name"] != name or record["kind"] != "site":
        raise ValueError(f"{place} is that of another cohort")
    combinations = answer.fields.get("annotates")
    if not isinstance(combinations, list) or len(combinations) > _MAX_COMBINATIONS:
        raise ValueError(f"{place}.annotates: no list of at most {_MAX_COMBINATIONS}")
    costs = answer.table("read_cost")
    if not all(key in ("constrained", "free") and _is_number(cost) for key, cost in costs.items()):
        raise ValueError(f"{place}.read_cost: no numbers by decoding")
    return SiteInfo(
        name=name,
        record=record,
        annotates=tuple(_annotates(one, place) for one in combinations),
        data_hash=answer.text("data_hash")[:64],
        train_cost=answer.number("train_cost"),
        read_cost=costs,
        loss_cost=answer.number("loss_cost"),
    )


def basis(name: str, answer: Letter) -> Basis:
    """What a site says that its update stands on: four hashes, which are compared later."""
    found = answer.table(BASIS)
    names = {one.name for one in fields(Basis)}
    if found.keys() != names or not all(isinstance(h, str) and _HASH.fullmatch(h) for h in found.values()):
        raise ValueError(f"site {name!r}: {BASIS}: not the sha256 of each of {', '.join(sorted(names))}")
    return Basis(**found)


def evaluation(name: str, decoding: str, answer: Letter) -> dict[str, Any]:
    """One of ``evaluations`` in ``results.json``: counts and shares of a site's own test notes."""
    place = f"site {name!r}: scores"
    found = answer.table("evaluation")
    check_evaluation(found, place)
    if found["cohort"] != name or found["decoding"] != decoding:
        raise ValueError(f"{place}: of another cohort or decoding than was asked for")
    return found


def losses(name: str, answer: Letter, labels: Set[str]) -> dict[str, float]:
    """Label -> loss, for exactly ``labels``. A loss that was not finite at the site is infinite here."""
    found = answer.table("losses")
    if set(found) != set(labels) or not all(loss is None or _is_number(loss) for loss in found.values()):
        raise ValueError(f"site {name!r}: losses: not those that were asked for")
    return {label: math.inf if loss is None else float(loss) for label, loss in found.items()}


def _annotates(found: Any, place: str) -> Annotates:
    return annotates_from_json(found, f"{place}.annotates")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MOST <= value <= MOST

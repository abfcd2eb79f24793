"""What an aggregation rule is, and how one is found by name.

A rule is one file in this folder, holding a frozen dataclass whose fields are the rule's settings and
the line ``RULE = TheClass``. The file's name is the rule's name in a study's TOML. To add a rule, add a
file: the contract suite (``tests/aggregation/test_rule_contract.py``) picks it up and holds it to the
laws below. Lookup knows the files of this folder only, so no name can import anything else.

Laws, for every rule:

1. Names and shapes stay.
2. One site alone gets its own adapter back, bit for bit.
3. Sites that return the current adapter unchanged leave it unchanged, bit for bit.
4. The order of the updates does not matter, bit for bit.
5. Inputs are not changed.
6. The same input gives the same result, bit for bit: no clock, no global random state.
7. Weights are finite, not negative, sum to 1, and name exactly the sites that sent an update.
8. Where a rule folds, what comes of it is what ``weights`` and ``aggregate`` say, bit for bit, in any order.
9. A rule that needs all updates together says so: ``fold`` returns None. They may then lie on the disk
   (``exchange/spill.py``), where every look at an array reads it. So a rule looks at one update after the
   other, or at one array of all of them, and keeps none. What comes of it is the same, bit for bit.
10. What ``check.check_updates`` and ``check.check_fit`` refuse is refused.
11. A rule that finds weights and adapter in one go, or has figures to tell, does so in ``combine``
    (``combined.py``), where it says what ``weights`` and ``aggregate`` say, bit for bit.
12. A round of fewer sites than ``needs.num_sites`` is aggregated all the same.

Who would break a law says so in its docstring, and which.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Protocol, cast

import fedmedlora.aggregation
from fedmedlora.aggregation.combined import Combined, Combines
from fedmedlora.aggregation.needs import Needs
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate

# The files of this folder that are not rules.
NOT_RULES = frozenset(
    {
        "rule", "needs", "check", "mean", "at_once", "one_by_one", "exact_sum", "expansion", "threads",
        "mixing", "searching", "combined", "shares", "products", "product_mean", "refactor", "reweighting",
        "coordinates",
    }
)  # fmt: skip


class Fold(Protocol):
    """An average under way: keeps a few adapters' memory, however many updates come."""

    def add(self, update: SiteUpdate) -> None:
        """Fold ``update`` in, which is needed no more then."""

    def finish(self) -> tuple[dict[str, float], Adapter]:
        """What ``weights`` and ``aggregate`` would say of all updates that were added."""


class Rule(Protocol):
    """(current adapter, the sites' updates) -> next adapter. The laws are in the module docstring."""

    @property
    def needs(self) -> Needs:
        """What every update must carry before it is weighed."""

    @property
    def local(self) -> Local:
        """What the rule asks of a site's own training, and which arrays travel."""

    def fold(self, current: Adapter) -> Fold | None:
        """An average that takes the updates one by one, or None where they have to be there together."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> weight. Weights are finite, not negative and sum to 1 (to rounding)."""

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The next adapter. ``current``: the adapter that every site started this round from."""


def combine(rule: Rule, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
    """Weights and next adapter of a round whose updates are all there, and what figures the rule has."""
    if isinstance(rule, Combines):
        return rule.combine(current, updates)
    return Combined(rule.weights(updates), rule.aggregate(current, updates))


def known_rules() -> tuple[str, ...]:
    """Names of all rules: the rule files of this folder, sorted."""
    found = pkgutil.iter_modules(fedmedlora.aggregation.__path__)
    return tuple(sorted(module.name for module in found if module.name not in NOT_RULES))


def load_rule(name: str, settings: Mapping[str, object] | None = None) -> Rule:
    """The rule in the file ``name``, with ``settings`` as its fields (left out: the default).

    Raises ValueError for an unknown rule or setting, naming the nearest known one, and for a value
    that the rule refuses.
    """
    known = known_rules()
    if name not in known:
        raise ValueError(f"unknown rule {name!r}{_nearest(name, known)}; known rules: {', '.join(known)}")
    rule = importlib.import_module(f"fedmedlora.aggregation.{name}").RULE
    allowed = [field.name for field in fields(rule)]
    given = dict(settings or {})
    for key in given:
        if key not in allowed:
            told = f"its settings: {', '.join(allowed)}" if allowed else "it has no settings"
            raise ValueError(f"rule {name}: unknown setting {key!r}{_nearest(key, allowed)}; {told}")
    return cast(Rule, rule(**given))


def _nearest(word: object, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""

"""What the coordinator asks of a site, read out of a letter before anything is done about it.

Every field is of a known kind and within its bounds, or the whole question is refused: none is a path, a
module or a command, and what names something (a task, a codec, a schema of the package) is looked up among
what is installed here. ``tests/flower/test_question.py`` walks through all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fedmedlora.flower.allows import Allows, Refused
from fedmedlora.flower.messages import ERRAND_FIELDS, LAST_ROUND, Letter, errand_of
from fedmedlora.sites import Errand
from fedmedlora.terms import Terms

Kind = Literal["describe", "train", "read", "losses"]
_FIELDS: Mapping[Kind, frozenset[str]] = {
    "describe": frozenset(),
    "train": ERRAND_FIELDS | {"round_num", LAST_ROUND},
    "read": ERRAND_FIELDS | {"decoding"},
    "losses": ERRAND_FIELDS,
}
_METHOD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9._ -]{1,64}")  # a site's name, or "the new adapter": it goes back as it came
_MODULE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_MAX_MODULES, _MAX_MODULE = 100, 100  # targets, and characters of one


@dataclass(frozen=True)
class Question:
    """A question that came over a network, checked. ``errand``: None for "describe".

    ``round_num``, ``last_round``: of "train". ``decoding``: of "read". ``parts``: adapters as bytes, which
    are checked where they are read; of "losses", by whose they are.
    """

    kind: Kind
    terms: Terms
    errand: Errand | None = None
    round_num: int = 0
    last_round: int = 0
    decoding: str = ""
    parts: Mapping[str, bytes] = field(default_factory=dict)

    def for_method(self) -> Errand:
        """The errand, which all but "describe" have."""
        assert self.errand is not None
        return self.errand

    def part(self, name: str) -> bytes:
        """The bytes named ``name``. Raises ``ValueError`` where there are none."""
        return Letter({}, self.parts).part(name)


def read_question(kind: Kind, letter: Letter) -> Question:
    """What ``letter`` asks. Raises ``Refused`` for anything that is not a question of that kind."""
    try:
        return _read(kind, letter)
    except Refused:
        raise
    except ValueError as error:  # in our own words, about what the coordinator itself has sent
        raise Refused(str(error)) from error


def refuse_question(allows: Allows, question: Question, now: datetime) -> None:
    """Raise ``Refused`` for what a site does not allow, and ``NotNow`` for what it allows at other hours.

    ``now``: local time. What depends on the site's own notes is refused later (``Allows.refuse_work``,
    ``Ledger.charge``).
    """
    allows.refuse_terms(question.terms)
    if question.errand is not None:
        allows.refuse_errand(question.errand)
    if question.kind == "read" and not allows.scores:
        raise Refused("this site does not send scores of adapters on its notes (scores = false)")
    if question.kind == "losses" and not question.terms.held_out_sentences:
        raise Refused("the study holds no notes out to score other sites' adapters on")
    if question.kind == "train":
        allows.refuse_hour(now)


def _read(kind: Kind, letter: Letter) -> Question:
    unknown = sorted(letter.fields.keys() - _FIELDS[kind] - {"terms"})
    if unknown:
        raise ValueError(f"message: {unknown[0][:80]}: unknown field")
    terms = Terms.from_json(letter.text("terms"))
    _check_names(terms)
    if kind == "describe":
        return Question(kind, terms)
    errand = errand_of(letter)
    if not _METHOD.fullmatch(errand.method):
        raise ValueError(f"message: method {errand.method[:80]!r} is none")
    if kind == "train":
        round_num, last_round = letter.whole("round_num"), letter.whole(LAST_ROUND)
        if not 1 <= round_num <= terms.training.rounds:
            raise Refused(f"round {round_num}: the study has rounds 1 to {terms.training.rounds}")
        if last_round >= round_num:
            raise Refused(f"last_round {last_round}: rounds before round {round_num}, or 0")
        return Question(kind, terms, errand, round_num, last_round, parts=letter.parts)
    if kind == "read":
        decoding = letter.text("decoding")
        if decoding not in ("constrained", "free"):
            raise Refused(f"decoding {decoding[:40]!r}: known are constrained and free")
        return Question(kind, terms, errand, decoding=decoding, parts=letter.parts)
    for label in letter.parts:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"message: adapters to score: {label[:80]!r} is neither a site nor a label")
    return Question(kind, terms, errand, parts=letter.parts)


def _check_names(terms: Terms) -> None:
    """Raise ``ValueError`` unless the names in ``terms`` are names."""
    name = terms.schema().name
    if terms.tasks.schema != name:
        raise ValueError(f"terms: [tasks] schema: {terms.tasks.schema[:80]!r} is not the name of the schema")
    targets = terms.adapter.targets
    if isinstance(targets, tuple):
        odd = [one for one in targets if len(one) > _MAX_MODULE or not _MODULE.fullmatch(one)]
        if odd or len(targets) > _MAX_MODULES:
            raise ValueError(
                f"terms: [adapter] targets: at most {_MAX_MODULES} modules, of letters, digits, _ and dots"
                f"{f', not {odd[0][:80]!r}' if odd else ''}"
            )

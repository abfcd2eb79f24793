"""``[allows]`` of ``site.toml``: what the coordinator may ask of a site, and the refusal of what is beyond.

A refusal is an answer: its words are meant for the coordinator and name the key, what was asked and what is
allowed. All that can be refused by the question alone is refused before a model or a note is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from fedmedlora.exchange.codec import known_codecs
from fedmedlora.flower.hours import Hours
from fedmedlora.settings import Range, nearest, setting
from fedmedlora.tasks.instruction import NAME as INSTRUCTION
from fedmedlora.tasks.task import known_tasks
from fedmedlora.terms import Terms, frame_hash
from fedmedlora.training.schedule import steps_per_round

if TYPE_CHECKING:  # it brings torch along, which a SuperNode does without
    from fedmedlora.sites import Errand

_POSITIVE = Range(low=1)
_HASH = re.compile(r"[0-9a-f]{64}")
_HASHES = ("base_model", "tokenizer", "chat_template")


class Refused(ValueError):  # noqa: N818 - an answer, not a mistake
    """A site will not do what it was asked; the words are meant for the coordinator."""


class NotNow(Exception):  # noqa: N818 - an answer, not a mistake
    """A site will do it, but later: in ``opens_in_s`` seconds. The words are meant for the coordinator."""

    def __init__(self, words: str, opens_in_s: float) -> None:
        """``words``: when it opens, by the clock at the site."""
        super().__init__(words)
        self.opens_in_s = opens_in_s


@dataclass(frozen=True, slots=True)
class Allows:
    """``[allows]``: what the coordinator may ask of this site. What is beyond it is refused."""

    tasks: tuple[str, ...] = setting(
        "tasks that this site trains and reads: ner, modifiers, instruction", ("ner", "modifiers")
    )
    forms: tuple[Literal["markup", "compact", "json", "tags"], ...] = setting(
        "output forms that it trains in", ("markup", "compact", "json", "tags")
    )
    base_model: str = setting(
        "sha256 of the base model's weights that it trains over, as a refusal tells it; empty: model_hash of "
        "[coordinator], and where that is empty too, those that [model] names, whatever they are",
        "",
    )
    tokenizer: str = setting("sha256 of that model's tokenizer; empty: that of [model], whatever it is", "")
    chat_template: str = setting("sha256 of what stands around a prompt; empty: likewise", "")
    max_rank: int = setting("rank of the adapter", 64, within=_POSITIVE)
    max_alpha: float = setting("scale of the adapter", 1024.0, within=Range(low=0, open_low=True))
    targets: Literal["any"] | tuple[str, ...] = setting(
        'modules that may carry an adapter: any, or those named ("all-linear", if a study may ask for it)',
        "any",
    )
    whole_model: bool = setting("train and send the whole model, where a method asks for it", False)
    max_rounds: int = setting("federated rounds of one study", 100, within=_POSITIVE)
    max_steps_per_round: int = setting("optimizer steps of one round", 100_000, within=_POSITIVE)
    max_passes_per_round: int = setting(
        "passes over this site's examples in one round, also where a study asks for steps",
        100,
        within=_POSITIVE,
    )
    max_total_rounds: int = setting(
        "rounds in all, over all studies, methods and tries; counted in state/trained.json",
        1000,
        within=_POSITIVE,
    )
    max_total_steps: int = setting(
        "optimizer steps in all, counted in the same place", 1_000_000, within=_POSITIVE
    )
    min_examples: int = setting(
        "smallest number of examples that it trains on: of few, an adapter may say too much",
        1,
        within=_POSITIVE,
    )
    hours: str = setting(
        'hours of the day, by the local clock, in which training may begin, such as "20:00-06:00"; at others '
        "the coordinator is told when to ask again; empty: any time",
        "",
    )
    uploads: Literal["any"] | tuple[str, ...] = setting(
        "codecs that this site's updates may travel in: any, or those named", "any"
    )
    scores: bool = setting(
        "send counts and F1 of adapters on this site's own test notes (numbers, no text)", True
    )
    validates_others: bool = setting(
        "score the other sites' adapters on a held-out part of this site's training notes and send the "
        "losses, if the study asks for it",
        False,
    )
    shows_adapter: bool = setting(
        'let other sites see this site\'s adapter of each round, as validation by = "sites" needs', False
    )

    def __post_init__(self) -> None:
        _refuse_unknown("tasks", "task", self.tasks, (*known_tasks(), INSTRUCTION))
        if self.uploads != "any":
            _refuse_unknown("uploads", "codec", self.uploads, known_codecs())
        for key in _HASHES:
            refuse_no_hash(key, getattr(self, key))
        if self.hours:
            Hours.of(self.hours)

    def refuse_terms(self, terms: Terms) -> None:
        """Raise ``Refused``, naming the key, unless this site allows ``terms``."""
        _refuse_others("tasks", terms.tasks.names, self.tasks)
        _refuse_others("forms", (terms.tasks.form,), self.forms)
        asked_hashes = (terms.base_model, terms.tokenizer, frame_hash(terms.frame))
        for key, asked_hash in zip(_HASHES, asked_hashes, strict=True):
            allowed = getattr(self, key)
            if allowed and asked_hash != allowed:
                what = key.replace("_", " ")
                raise Refused(
                    f"the study's {what} has sha256 {asked_hash[:64]}; this site allows {allowed} ({key})"
                )
        if self.targets != "any":
            asked = terms.adapter.targets
            _refuse_others("targets", (asked,) if isinstance(asked, str) else asked, self.targets)
        t = terms.training
        for what, number, key, most in (
            ("rounds", t.rounds, "max_rounds", self.max_rounds),
            ("steps_per_round", t.steps_per_round, "max_steps_per_round", self.max_steps_per_round),
            ("adapter rank", terms.adapter.rank, "max_rank", self.max_rank),
            ("adapter alpha", terms.adapter.alpha, "max_alpha", self.max_alpha),
            # Where a study asks for steps, its passes are not used; how many they come to, see below.
            (
                "passes_per_round",
                0 if t.steps_per_round else t.passes_per_round,
                "max_passes_per_round",
                self.max_passes_per_round,
            ),
        ):
            if number > most:
                raise Refused(f"{what} {number}: this site allows at most {most} ({key})")
        if 0 < t.max_train_examples < self.min_examples:
            raise Refused(
                f"max_train_examples {t.max_train_examples}: this site trains on at least "
                f"{self.min_examples} (min_examples)"
            )
        if terms.held_out_sentences:
            self._refuse_validation_by_sites()

    def refuse_errand(self, errand: Errand) -> None:
        """Raise ``Refused`` unless this site allows what the method asks of it, and how updates travel."""
        if errand.local.trains == "model" and not self.whole_model:
            raise Refused(
                f"method {errand.method}: it trains and sends the whole model, and this site does not "
                "(whole_model = false)"
            )
        if self.uploads != "any":
            _refuse_others("uploads", (errand.exchange.upload,), self.uploads)

    def refuse_work(self, num_examples: int, terms: Terms) -> int:
        """Optimizer steps of a round on ``num_examples`` of this site's own.

        Raises ``Refused`` where they are too many for what the site allows, or the examples too few.
        """
        if num_examples < self.min_examples:
            # Not how many there are: that is the site's own affair.
            raise Refused(
                f"under the study's settings this site has fewer examples to train on than it asks for, "
                f"{self.min_examples} (min_examples)"
            )
        t = terms.training
        steps, most_by_passes = (
            steps_per_round(
                num_examples,
                examples_per_step=t.examples_per_step,
                steps_per_round=by_steps,
                passes_per_round=passes,
            )
            for by_steps, passes in (
                (t.steps_per_round, t.passes_per_round),
                (0, self.max_passes_per_round),
            )
        )
        if steps > self.max_steps_per_round:
            raise Refused(
                f"a round would take {steps} optimizer steps here; this site allows at most "
                f"{self.max_steps_per_round} (max_steps_per_round)"
            )
        if steps > most_by_passes:
            raise Refused(
                f"a round of {steps} optimizer steps would go over this site's examples more often than the "
                f"{self.max_passes_per_round} times that it allows (max_passes_per_round)"
            )
        return steps

    def refuse_hour(self, now: datetime) -> None:
        """Raise ``NotNow`` unless training may begin at ``now``, local time."""
        if not self.hours:
            return
        hours = Hours.of(self.hours)
        opens_in_s = hours.opens_in_s(now)
        if opens_in_s:
            raise NotNow(f"this site begins to train between {hours} by its clock", opens_in_s)

    def _refuse_validation_by_sites(self) -> None:
        for key, is_allowed, what in (
            ("validates_others", self.validates_others, "score each other's adapters"),
            ("shows_adapter", self.shows_adapter, "show each other their adapters"),
        ):
            if not is_allowed:
                raise Refused(
                    f'the study asks its sites to {what} ([validation] by = "sites"), and this site does not '
                    f"({key} = false)"
                )


def refuse_no_hash(key: str, value: str) -> None:
    """Raise ``ValueError``, naming ``key``, unless ``value`` is empty or a sha256."""
    if value and not _HASH.fullmatch(value):
        raise ValueError(f"{key}: {value[:80]!r} is no sha256; write 64 of 0-9 a-f, or nothing")


def _refuse_others(key: str, asked: Sequence[str], allowed: Sequence[str]) -> None:
    beyond = sorted(set(asked) - set(allowed))
    if beyond:
        named = ", ".join(name[:40] for name in beyond[:5])
        raise Refused(
            f"{key} {named} are not among those that this site allows: {', '.join(allowed) or 'none'} ({key})"
        )


def _refuse_unknown(key: str, what: str, named: Sequence[str], known: Sequence[str]) -> None:
    for name in named:
        if name not in known:
            raise ValueError(
                f"{key}: unknown {what} {name[:80]!r}{nearest(name, known)}; "
                f"known {what}s: {', '.join(known)}"
            )

"""START HERE: one federated run, top to bottom.

Every round, every site trains the current adapter on its own notes, the coordinator weighs what comes
back and aggregates it, and the result is the next current adapter. That is all of it. Everything else is
a setting of this loop: single-site training is a federation of one site, centralized training is one site
that holds everybody's notes, zero-shot is a run of no rounds.

The loop asks a *carrier* for the sites' updates and does not know where the sites are: on this machine,
trained one after the other (``in_process.py``), or at hospitals behind a network (``flower/``).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from fedmedlora.aggregation.mixing import Probe, learn_weights
from fedmedlora.aggregation.rule import Fold, Rule, combine
from fedmedlora.aggregation.searching import search_weights
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change, plus, send
from fedmedlora.exchange.codec import Codec
from fedmedlora.exchange.spill import spilling
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.security.admission import Basis


@dataclass(frozen=True, slots=True)
class SiteReport:
    """A site's update of one round and what it took. Counts and times only, never content.

    ``seconds``: of training. ``basis``: what the site worked with, by its own account; None: it says nothing.
    ``late_from``: the round that the update was asked for in, where that is an
    earlier one. ``change_norm``: how far it moved, where that was measured.
    ``answer_seconds``: from the question to its answer, over a network.
    """

    update: SiteUpdate
    num_examples: int
    train_loss: float
    seconds: float
    upload_bytes: int
    download_bytes: int
    peak_memory_bytes: int
    late_from: int | None = None
    change_norm: float | None = None
    answer_seconds: float | None = None
    basis: Basis | None = None

    def numbers(self) -> dict[str, Any]:
        """All but the update and its basis."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("update", "basis")}


@dataclass(frozen=True, slots=True)
class Absent:
    """A site that was asked and is not in the round. ``reason``: why, in words for the round's record.
    ``is_final``: whether asking again would get the same answer."""

    site: str
    reason: str
    is_final: bool = False


class Carrier(Protocol):
    """Brings the current adapter to the sites and their updates back."""

    def train(
        self, round_num: int, current: Adapter, change: Change | None = None
    ) -> Iterable[SiteReport | Absent]:
        """One answer per site, as they come; every update started from ``current``.

        Whether a round may do without those that are absent is for the carrier to say: it raises
        ``ValueError`` where it may not.

        ``change``: leads there from what the sites held in the round before (in the first: from the untrained
        adapter). None: the whole adapter is sent.
        """


@dataclass(frozen=True, slots=True)
class Validator:
    """What rules can find out about adapters on validation notes.

    ``losses``: the round (from 1), and name -> adapter, to name -> that adapter's mean loss (a site's: L_k).
    ``probe``: an adapter -> its loss, and the loss's gradient by the adapter's arrays. None: cannot be found
    out here. ``clock``: seconds, by which a round tells how long that took; ahead where a loss was known.
    """

    losses: Callable[[int, Mapping[str, Adapter]], Mapping[str, float]] | None = None
    probe: Probe | None = None
    clock: Callable[[], float] = time.perf_counter


class RoundStore(Protocol):
    """Where finished rounds are kept, so that a run that was stopped goes on after the last of them."""

    def load(self, round_num: int) -> tuple[Adapter, dict[str, Any]] | None:
        """The adapter after ``round_num`` and the round's record, or None if it is not finished."""

    def save(self, round_num: int, adapter: Adapter, record: dict[str, Any]) -> None:
        """Keep a finished round, durably."""


def run_rounds(
    start: Adapter,
    rule: Rule,
    carrier: Carrier,
    num_rounds: int,
    *,
    store: RoundStore,
    validator: Validator | None = None,
    watch: Callable[[int, Adapter], dict[str, Any] | None] = lambda round_num, adapter: None,
    download: Codec | None = None,
    spill_to: Path | None = None,
) -> tuple[Adapter, list[dict[str, Any]]]:
    """The adapter after ``num_rounds`` rounds from ``start``, and one record per round.

    Adapters hold what travels under the rule. ``validator``: asked when the rule needs it. ``watch``:
    called with every new adapter; what it returns is kept in the round's record. Rounds that ``store``
    already holds are not run again, and the result is the same, bit for bit. ``spill_to``: the folder for
    updates that memory should not hold together; see ``exchange/spill.py``.

    ``download``: a codec that loses something on the way to the sites (None: none is used). Then a round
    begins with what the sites received, and what they did not is added to what comes of it. Both follow from
    ``start`` and the adapters that the rounds left, so a run that goes on needs nothing else.
    """
    validator = validator or Validator()
    if (rule.needs.losses and validator.losses is None) or (rule.needs.mixing and validator.probe is None):
        raise ValueError("this rule weighs sites by a validation loss, and the run has no validation example")
    latest, held, records = start, start, []  # what the coordinator has, and what the sites hold of it
    for round_num in range(1, num_rounds + 1):
        change = None if download is None else send(download, held, latest)
        held = latest if change is None else change.received
        finished = store.load(round_num)
        if finished is None:
            finished = _one_round(round_num, held, change, rule, carrier, validator, watch, spill_to)
            store.save(round_num, *finished)
        latest, record = finished
        records.append(record)
    return latest, records


def _one_round(
    round_num: int,
    current: Adapter,
    change: Change | None,
    rule: Rule,
    carrier: Carrier,
    validator: Validator,
    watch: Callable[[int, Adapter], dict[str, Any] | None],
    spill_to: Path | None,
) -> tuple[Adapter, dict[str, Any]]:
    fold = rule.fold(current)
    absent: list[Absent] = []
    arrived = _present(carrier.train(round_num, current, change), absent)
    if fold is not None:
        sites, seconds = _folded(fold, arrived)
        began = time.perf_counter()
        weights, following = fold.finish()
        figures: Mapping[str, float] = {}
        validate_seconds = None
        seconds += time.perf_counter() - began
    else:
        with spilling(spill_to) as keep:
            reports = [replace(report, update=keep(report.update)) for report in arrived]
            validated = validator.clock()
            reports = _weighable(round_num, current, reports, rule, validator)
            validate_seconds = validator.clock() - validated if rule.needs.validation else None
            sites = [_site_record(report) for report in reports]
            updates = [report.update for report in reports]
            began = time.perf_counter()
            found = combine(rule, current, updates)
            weights, following, figures = found.weights, found.adapter, found.figures
            seconds = time.perf_counter() - began
    began = time.perf_counter()
    following = plus(following, None if change is None else change.residual)
    seconds += time.perf_counter() - began
    return following, {
        "round_num": round_num,
        "weights": weights,
        "figures": dict(figures),
        "sites": sorted(sites, key=lambda record: str(record["site"])),
        "absent": [{"site": one.site, "reason": one.reason} for one in sorted(absent, key=lambda a: a.site)],
        "aggregate_seconds": seconds,
        "validate_seconds": validate_seconds,
        "validation": watch(round_num, following),
    }


def _present(answers: Iterable[SiteReport | Absent], absent: list[Absent]) -> Iterator[SiteReport]:
    """The reports among ``answers``; the others are put into ``absent``."""
    for answer in answers:
        if isinstance(answer, Absent):
            absent.append(answer)
        else:
            yield answer


def _folded(fold: Fold, arrived: Iterable[SiteReport]) -> tuple[list[dict[str, Any]], float]:
    """Each update folded in as it arrives and let go of: the sites' records, and the seconds that it took."""
    records, seconds = [], 0.0
    for report in arrived:
        began = time.perf_counter()
        fold.add(report.update)
        seconds += time.perf_counter() - began
        records.append(_site_record(report))
    return records, seconds


def _weighable(
    round_num: int, current: Adapter, reports: list[SiteReport], rule: Rule, validator: Validator
) -> list[SiteReport]:
    """``reports`` with what the rule needs to weigh them, found by others than the sites themselves."""
    if rule.needs.losses:
        assert validator.losses is not None, "checked before the first round"
        losses = validator.losses(round_num, {r.update.site: r.update.adapter for r in reports})
        reports = [
            replace(r, update=replace(r.update, validation_loss=losses[r.update.site])) for r in reports
        ]
    weights: Mapping[str, float] = {}
    if rule.needs.search:
        assert validator.losses is not None, "checked before the first round"
        validate = functools.partial(validator.losses, round_num)
        weights = search_weights(current, [r.update for r in reports], rule.needs.search, validate)
    if rule.needs.mixing:
        assert validator.probe is not None, "checked before the first round"
        weights = learn_weights(current, [r.update for r in reports], rule.needs.mixing, validator.probe)
    if weights:
        reports = [
            replace(r, update=replace(r.update, mixing_weight=weights[r.update.site])) for r in reports
        ]
    return reports


def _site_record(report: SiteReport) -> dict[str, Any]:
    return {
        "site": report.update.site,
        "num_examples": report.num_examples,
        "num_target_tokens": report.update.num_target_tokens,
        "train_loss": report.train_loss,
        "validation_loss": report.update.validation_loss,
        "seconds": report.seconds,
        "upload_bytes": report.upload_bytes,
        "download_bytes": report.download_bytes,
        "peak_memory_bytes": report.peak_memory_bytes,
        "late_from": report.late_from,
        "change_norm": report.change_norm,
        "answer_seconds": report.answer_seconds,
    }

"""One method's rounds: who is asked, what the rule may find out on validation notes, what is watched."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedmedlora.as_sent import AsSent
from fedmedlora.basis import basis_asked
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local, put, take
from fedmedlora.local_site import local_training
from fedmedlora.methods import Method
from fedmedlora.model.tokens import TokenExample
from fedmedlora.model.weights import read_weights, write_weights
from fedmedlora.own_parts import OwnParts
from fedmedlora.participation import participants, sites_there
from fedmedlora.rounds import Carrier, Validator, run_rounds
from fedmedlora.run import Run
from fedmedlora.run_audit import Recorded
from fedmedlora.run_folder import UpdateCache
from fedmedlora.signals import read_validation, signals
from fedmedlora.sites import Participants, mean_of_others
from fedmedlora.study import Study
from fedmedlora.tasks.task import finders
from fedmedlora.training.site import validation_gradient, validation_loss
from fedmedlora.work_plan import validation_cost

_NEW = "the new adapter"  # no site can be called that: its name would have spaces


def train(run: Run, method: Method, start: Adapter) -> tuple[Adapter, Adapter | None, list[dict[str, Any]]]:
    """(what travels after all rounds, the whole adapter, one record per round) of ``method``, from ``start``.

    What does not travel is that of ``start``, or the mean of what the sites kept: None where they keep it at
    their own machines.
    """
    assert method.rule is not None
    local = method.rule.local
    if local.trains == "model":
        write_weights(run.base, run.model, run.start)
        start = read_weights(run.model, whole=True)
    study, store = run.study, run.store(method)
    away = _away(study)

    def takes_part(round_num: int) -> tuple[str, ...]:
        share = study.training.participation
        return participants(method.names, round_num, share=share, away=away, seed=study.seed)

    recorded = Recorded(store, run.log, method.name, tuple(run.followers.get(method.name, ())))
    participants_of = Participants(
        sites=method.sites,
        names=method.names,
        cache=run.updates if method.shares_updates else UpdateCache(run.folder / "site-updates" / "own"),
        errand=method.errand(),
        takes_part=takes_part if method.is_federated else None,
        begin_alike=local.trains != "model",
        rounds=study.rounds,
        history=store.record,
        basis=basis_asked(run.terms) if method.encoder is None else None,
        tell=recorded.absent,
    )
    carrier: Carrier = participants_of
    if method.sites.are_here and not method.exchange.is_exact:
        carrier = AsSent(participants_of, OwnParts(run.folder / "residuals"))
    down = method.exchange.down()
    final, records = run_rounds(
        take(start, local.sends),
        method.rule,
        carrier,
        method.num_rounds or study.training.rounds,
        store=recorded,
        validator=_validator(run, method, start),
        watch=lambda round_num, adapter: _watch(run, method, start, round_num, adapter),
        download=None if down.is_exact else down,
        spill_to=run.folder / "site-updates" / "spilled",
    )
    return final, whole(method, start, final), records


def whole(method: Method, start: Adapter, travelling: Adapter) -> Adapter | None:
    """``travelling`` with what did not travel, or None where that is at the sites' own machines."""
    local = Local() if method.rule is None else method.rule.local
    if local.sends in ("both", "model"):
        return travelling
    if not local.keeps:
        return put(start, travelling)
    own = method.sites.mean_own(method.errand())
    return None if own is None else put(put(start, own), travelling)


def _away(study: Study) -> dict[str, tuple[int, ...]]:
    """Site -> rounds that it misses."""
    return {site.name: site.absent_rounds for site in study.sites}


def _validator(run: Run, method: Method, start: Adapter) -> Validator:
    if run.study.validates_by_sites():

        def losses_at_sites(round_num: int, adapters: Mapping[str, Adapter]) -> dict[str, float]:
            there = sites_there(method.names, round_num, _away(run.study))
            found = method.sites.losses(there, adapters, method.errand())
            return {site: mean_of_others(found, site) for site in adapters}

        return Validator(losses=losses_at_sites)
    examples = run.prepared.validation
    if not examples:
        return Validator()

    ahead = 0.0  # of the clock, for losses that were measured earlier or by another run

    def losses_here(round_num: int, adapters: Mapping[str, Adapter]) -> dict[str, float]:
        nonlocal ahead
        began = time.perf_counter()
        found, seconds = signals(run, list(adapters.values()))
        ahead += seconds - (time.perf_counter() - began)
        return dict(zip(adapters, found, strict=True))

    def probe(adapter: Adapter) -> tuple[float, Adapter]:
        with run.progress.stage("gradient on the validation notes", 3 * validation_cost(examples)):
            settings = local_training(run.terms)
            return validation_gradient(run.base, run.model, adapter, examples, settings)

    return Validator(losses=losses_here, probe=probe, clock=lambda: time.perf_counter() + ahead)


def _loss(run: Run, adapter: Adapter, examples: tuple[TokenExample, ...] | list[TokenExample]) -> float:
    # The training loss, without an update.
    return validation_loss(run.base, run.model, adapter, examples, local_training(run.terms))


def _watch(
    run: Run, method: Method, start: Adapter, round_num: int, travelling: Adapter
) -> dict[str, Any] | None:
    by_sites = run.study.validates_by_sites()
    if method.encoder is not None:
        return None  # its loss is another one, and no rule asks for it
    if not ((run.prepared.validation or by_sites) and run.study.evaluation.every_round):
        return None
    if by_sites:  # all that are there, whichever trained: a round is of the same notes in all methods
        names = sites_there([info.name for info in run.sites.infos], round_num, _away(run.study))
        losses = run.sites.losses(names, {_NEW: travelling}, method.errand())
        loss, adapter = mean_of_others(losses, _NEW), whole(method, start, travelling)
    else:
        adapter = whole(method, start, travelling)
        if adapter is None:
            return None
        with run.progress.stage("validation loss", validation_cost(run.prepared.validation)):
            loss = _loss(run, adapter, run.prepared.validation)
    told = loss if math.isfinite(loss) else None
    found: dict[str, Any] = {"loss": told, "ner_strict_f1": None, "ner_lenient_f1": None}
    form = run.form("constrained")
    form = replace(form, tasks=finders(form.tasks))
    if form.tasks and run.prepared.validation_notes and adapter is not None:
        label = f"round {round_num}: entities in the validation notes"
        entities = read_validation(run, adapter, form, label)["entities"]
        found["ner_strict_f1"] = entities["strict"]["f1"]
        found["ner_lenient_f1"] = entities["lenient"]["f1"]
    return found

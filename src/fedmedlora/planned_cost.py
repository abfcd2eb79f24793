"""What a run will cost before it begins, and what is left of it: for the bar that shows the time left."""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.evaluate_method import decodings
from fedmedlora.methods import Method
from fedmedlora.run import Run
from fedmedlora.work_plan import ner_cost, reading_cost, validation_cost


def planned_cost(run: Run, methods: Sequence[Method]) -> float:
    """Cost of all that ``methods`` still have to do, in the unit of ``work_plan.py``."""
    total = 0.0
    shared: set[tuple[bool, str]] = (
        set()
    )  # (whether of the token classifier, site): sites whose first round another method has trained already
    for method in methods:
        total += _training(run, method, shared)
        if method.shares_updates and method.adaptation is None:
            shared |= {(method.encoder is not None, name) for name in method.names}
        store = run.store(method)
        for decoding in decodings(run.study, method):
            for name, costs in run.test_sets():
                if method.adaptation is not None and method.adaptation.site != name:
                    continue
                if not store.evaluation(name, decoding).exists():
                    # The token classifier is some six times smaller, and reads a sentence once.
                    total += costs.get(decoding, 0.0) * (1.0 if method.encoder is None else 0.05)
    return total


def _training(run: Run, method: Method, shared: set[tuple[bool, str]]) -> float:
    total = 0.0
    by_sites = run.study.validates_by_sites()
    infos = method.infos()
    is_encoder = method.encoder is not None
    share = run.study.training.participation if method.is_federated else 1.0
    needs = None if method.rule is None else method.rule.needs
    watched = bool(run.prepared.validation) and run.study.evaluation.every_round and not is_encoder
    once = validation_cost(run.prepared.validation)
    num_rounds = method.num_rounds or run.study.training.rounds
    for round_num in range(1, num_rounds + 1) if method.rule else ():
        if run.store(method).is_finished(round_num):
            continue
        total += share * sum(
            i.train_cost for i in infos if round_num > 1 or (is_encoder, i.name) not in shared
        )
        if needs is not None and needs.losses:
            at_sites = sum(i.loss_cost * (len(infos) - 1) for i in infos)
            here = once if run.study.validation.signal != "f1" else _reading(run)
            total += at_sites if by_sites else share * len(infos) * here
            num_tried = len(needs.search.taus) + 1 if needs.search is not None else 0
            total += num_tried * (sum(i.loss_cost for i in infos) if by_sites else here)
        if needs is not None and needs.mixing is not None:
            total += 3 * once * (needs.mixing.steps + 1)
        if by_sites and run.study.evaluation.every_round:
            total += sum(info.loss_cost for info in run.sites.infos)
        if watched:
            total += once + ner_cost(run.prepared.validation_notes)
    return total


def _reading(run: Run) -> float:
    return reading_cost(run.prepared.validation_notes, run.form("constrained"))

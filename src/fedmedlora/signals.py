"""What Fed-MedLoRA+ weighs an adapter by: what it does on the coordinator's validation notes."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any

from fedmedlora.cohort import notes_hash
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.local_site import local_training
from fedmedlora.measure import Form, predict, scores
from fedmedlora.model.weights import write_weights
from fedmedlora.run import Run
from fedmedlora.training.validation import validation_losses
from fedmedlora.work_plan import ner_cost, validation_cost


def signals(run: Run, adapters: Sequence[Adapter]) -> tuple[list[float], float]:
    """(the signal of each adapter as ``[validation] signal`` says, smaller is better; seconds it took).

    An adapter that this run, or another that shares its work, has measured before is not measured again, and
    takes the seconds that it took then.
    """
    how = _how(run)
    keys = [hashlib.sha256(f"{how}/{one.hash()}".encode()).hexdigest() for one in adapters]
    found: dict[str, tuple[float, float]] = {}
    with run.signals.claimed(keys):
        fresh: dict[str, Adapter] = {}
        for key, one in zip(keys, adapters, strict=True):
            known = run.signals.load(key)
            if known is None:
                fresh[key] = one
            else:
                found[key] = known
        began = time.perf_counter()
        values = _measured(run, list(fresh.values()))
        seconds = (time.perf_counter() - began) / max(1, len(fresh))
        for key, value in zip(fresh, values, strict=True):
            run.signals.save(key, value, seconds)
            found[key] = (value, seconds)
    return [found[key][0] for key in keys], math.fsum(seconds for _, seconds in found.values())


def read_validation(run: Run, adapter: Adapter, form: Form, label: str) -> dict[str, Any]:
    """Scores of ``adapter`` on the validation notes. ``label``: for the progress shown."""
    notes = run.prepared.validation_notes
    write_weights(run.base, run.model, adapter)
    with run.progress.stage(label, ner_cost(notes)) as advance:
        predictions = predict(run.base, run.model, notes, form, advance)
    return scores(notes, predictions, form, num_resamples=0, seed=0)


def _measured(run: Run, adapters: Sequence[Adapter]) -> list[float]:
    if not adapters:
        return []
    signal = run.study.validation.signal
    if signal == "f1":
        return [1.0 - _mean_f1(run, adapter) for adapter in adapters]
    examples = run.prepared.validation
    settings = local_training(run.terms)
    cost = validation_cost(examples) * len(adapters)
    with run.progress.stage("validation losses of the sites' adapters", cost):
        if signal == "loss":
            return validation_losses(run.base, run.model, adapters, examples, settings)
        tasks = sorted({example.example.task for example in examples})
        by_task = [
            validation_losses(
                run.base, run.model, adapters, [e for e in examples if e.example.task == task], settings
            )
            for task in tasks
        ]
        return [math.fsum(of_adapter) / len(tasks) for of_adapter in zip(*by_task, strict=True)]


def _mean_f1(run: Run, adapter: Adapter) -> float:
    """Mean over entities and modifiers (asked for with gold entities) of strict micro-F1; undefined is 0."""
    form = run.form("constrained")
    found = read_validation(run, adapter, form, "F1 of a site's adapter on the validation notes")
    kinds = [found[kind] for kind in ("entities", "modifiers_gold") if found[kind] is not None]
    return math.fsum(kind["strict"]["f1"] or 0.0 for kind in kinds) / len(kinds)


def _how(run: Run) -> str:
    """sha256 of everything but the adapter that the signal depends on."""
    settings = local_training(run.terms)
    digest = hashlib.sha256(run.study.validation.signal.encode())
    digest.update(repr((run.base.hash, run.base.precision, run.base.quantization)).encode())
    digest.update(repr((run.base.device.type, run.terms.adapter)).encode())
    digest.update(repr((settings.loss, settings.decision_weight, run.form("constrained"))).encode())
    if run.study.validation.signal == "f1":
        digest.update(notes_hash(run.prepared.validation_notes).encode())
    for example in run.prepared.validation:
        digest.update(example.seen())
    return digest.hexdigest()

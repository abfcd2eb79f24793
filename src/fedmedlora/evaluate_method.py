"""One method's adapter on every cohort: what is known already, what another run has read, and the rest."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmedlora.cohort import Cohort, Evaluation, evaluate_cohort
from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.measure import Predictions
from fedmedlora.methods import Method
from fedmedlora.rounds import Absent
from fedmedlora.run import Run
from fedmedlora.run_folder import read_json, write_json
from fedmedlora.study import Study
from fedmedlora.study_forms import answers_read_by
from fedmedlora.tasks.instruction import is_instruction


def decodings(study: Study, method: Method) -> tuple[str, ...]:
    """How the method's adapter is read."""
    if is_instruction(study.tasks.names):
        return ("free",)  # an answer is in words of its own
    if method.encoder is not None or method.other_reader is not None:
        return ("constrained",)  # their answers have one form, and stand beside those of ours that have one
    if method.rule is None and method.adaptation is None:
        is_read_freely = study.evaluation.zero_shot_free and answers_read_by(study.tasks) != "tagging"
        return ("constrained", "free") if is_read_freely else ("constrained",)
    return study.evaluation.decoding


def evaluate(
    run: Run, method: Method, adapter: Adapter | None, travelling: Adapter, decoding: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The method's scores on every cohort that it is read on, in the order of the study, and those cohorts
    that could not be read.

    ``adapter``: the whole of it, None where a part stays at the sites: then they alone read. ``travelling``:
    what they are sent.
    """
    store = run.store(method)
    here = {cohort.name: cohort for cohort in run.prepared.cohorts}

    def look() -> list[str]:
        missing = [n for n in names_read(run, method, adapter) if not store.evaluation(n, decoding).exists()]
        for name in list(missing):
            known = _known(run, method, adapter, here, name, decoding)
            if known is not None:
                known.pop("usage", None)  # the run that asked for it has spent it
                write_json(store.evaluation(name, decoding), known)
                missing.remove(name)
        return missing

    missing = look()
    keys = [_key(run, method, adapter, here, name, decoding) for name in missing]
    shared = [] if run.evaluations is None else [key for key in keys if key is not None]
    with run.evaluations.claimed(shared) if run.evaluations is not None else nullcontext():
        if shared:
            missing = look()  # another run may have read it while this one waited
        absent = {one.site: one.reason for one in _read(run, method, adapter, travelling, decoding, missing)}
    names = names_read(run, method, adapter)
    not_read = [{"cohort": n, "decoding": decoding, "reason": absent[n]} for n in names if n in absent]
    return [read_json(store.evaluation(n, decoding)) for n in names if n not in absent], not_read


def _read(
    run: Run, method: Method, adapter: Adapter | None, travelling: Adapter, decoding: str, missing: list[str]
) -> list[Absent]:
    """Read the adapter on the cohorts ``missing`` and keep what comes of it; the sites that could not."""
    absent = []
    here = {cohort.name: cohort for cohort in run.prepared.cohorts}
    at_sites = [name for name in missing if name not in here]
    if at_sites:
        readers = run.sites if method.encoder is None else method.encoder
        for name, found in readers.read(at_sites, travelling, decoding, method.errand(), method.label):
            if isinstance(found, Absent):
                absent.append(found)
            else:
                _keep(run, method, adapter, name, found)
    for name in missing:
        if name in here and method.encoder is not None and adapter is not None:
            found = method.encoder.evaluate(here[name], adapter, decoding, method.label)
            _keep(run, method, adapter, name, found)
        elif name in here and adapter is not None:
            found = evaluate_cohort(
                run.base,
                run.model,
                adapter,
                here[name],
                replace(run.form(decoding), shots=method.shots),
                num_resamples=run.study.evaluation.bootstrap,
                seed=run.terms.draw_seed(),
                label=method.label,
                progress=run.progress,
                other=method.other_reader,
            )
            _keep(run, method, adapter, name, found)
    return absent


def names_read(run: Run, method: Method, adapter: Adapter | None) -> list[str]:
    """Cohorts that the method is read on: all, or the one that it adapted to."""
    here = {cohort.name for cohort in run.prepared.cohorts}
    names = [name for name, _ in run.test_sets() if adapter is not None or name not in here]
    if method.adaptation is None:
        return names
    return [name for name in names if name == method.adaptation.site]


def _known(
    run: Run, method: Method, adapter: Adapter | None, here: dict[str, Cohort], name: str, decoding: str
) -> dict[str, Any] | None:
    key = _key(run, method, adapter, here, name, decoding)
    if key is None or run.evaluations is None:
        return None
    return run.evaluations.load(
        key, _predictions_folder(run, method, decoding), run.store(method).details(name, decoding)
    )


def _key(
    run: Run, method: Method, adapter: Adapter | None, here: dict[str, Cohort], name: str, decoding: str
) -> str | None:
    """sha256 of everything that the scores depend on; None where that is not all known here."""
    local = method.errand().local
    infos = {info.name: info for info in run.sites.infos}
    notes_hash = here[name].notes_hash() if name in here else infos[name].test_hash
    if adapter is None or local.keeps or not notes_hash:
        return None
    if method.encoder is not None:
        return None
    # An untrained adapter changes nothing, whichever seed has drawn its A.
    is_untrained = all(not array.any() for key, array in adapter.arrays.items() if ".lora_B." in key)
    whose = "untrained" if is_untrained and local.trains != "model" else adapter.hash()
    evaluation = run.study.evaluation
    parts = [
        whose,
        name,
        notes_hash,
        run.base.hash,
        run.base.precision,
        run.base.device.type,
        # Weights in four bits come from the same files as whole ones, and read differently.
        *([] if run.base.quantization == "none" else [run.base.quantization]),
        repr(replace(run.form(decoding), shots=method.shots)),
        "" if method.other_reader is None else method.other_reader.key,
        evaluation.bootstrap,
        run.terms.draw_seed(),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _predictions_folder(run: Run, method: Method, decoding: str) -> Path:
    return run.folder / "predictions" / method.folder_name / decoding


def _keep(run: Run, method: Method, adapter: Adapter | None, cohort: str, found: Evaluation) -> None:
    """Write what was found: predictions and details first, the record, which says that all is there, last."""
    decoding = found.record["decoding"]
    folder = _predictions_folder(run, method, decoding)
    details = run.store(method).details(cohort, decoding)
    if found.predictions is not None:
        is_synthetic = any(r["name"] == cohort and r["synthetic"] for r in run.cohort_records())
        _write_predictions(run, folder, cohort, found.predictions, is_synthetic)
    if found.details is not None:
        write_json(details, found.details)
    write_json(run.store(method).evaluation(cohort, decoding), found.record)
    here = {one.name: one for one in run.prepared.cohorts}
    key = _key(run, method, adapter, here, cohort, decoding)
    if key is not None and run.evaluations is not None:
        run.evaluations.save(key, found.record, folder, cohort, details)


def _write_predictions(
    run: Run, where: Path, cohort: str, predictions: Predictions, is_synthetic: bool
) -> None:
    """Ids, offsets and types, or ids and scores; never text, whose notes they are."""
    kinds = {"end-to-end": predictions.end_to_end, "given-gold": predictions.given_gold}
    if predictions.answers is not None:
        told = [{"id": key, "score": score} for key, score in predictions.answers.scores.items()]
        write_json(where / f"{cohort}.json", {"metric": predictions.answers.metric, "records": told})
    for kind, found in kinds.items():
        if found is None:
            continue
        path = where / kind / f"{cohort}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        notes = [replace(note, text="", group="", meta={}) for note in found.values()]
        header = {"name": cohort, "schema": run.prepared.schema.name, "synthetic": is_synthetic}
        write_notes(path, notes, header=header, with_text=False)

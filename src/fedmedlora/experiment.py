"""A whole study: every method trained, every adapter measured on every cohort, one ``results.json``."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.cohort import evaluate_cohort, reading_form
from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.extraction.grammar import refuse_unreadable
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import local_training, with_lora
from fedmedlora.manifest import manifest, plain_name
from fedmedlora.measure import Form, Predictions, predict, scores
from fedmedlora.methods import Method, methods_of
from fedmedlora.model.cache import num_positions
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import read_adapter
from fedmedlora.model.saved import adapter_files
from fedmedlora.prepare import Prepared, prepare, terms_of
from fedmedlora.progress import Progress, Silent
from fedmedlora.rounds import run_rounds
from fedmedlora.run_folder import MethodFolder, UpdateCache, open_run, read_json, write_file, write_json
from fedmedlora.sites import Participants, Sites, mean_of_others
from fedmedlora.study import Study
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.task import finders
from fedmedlora.terms import Terms
from fedmedlora.training.site import check_gradient_checkpointing, validation_loss
from fedmedlora.work_plan import ner_cost, reading_cost, validation_cost

_NEW = "the new adapter"  # no site can be called that: its name would have spaces


@dataclass
class Experiment:
    """A study on its way: what is loaded once and used by every method."""

    study: Study
    terms: Terms
    prepared: Prepared
    sites: Sites
    base: BaseModel
    model: Any  # PEFT's model over ``base``
    start: Adapter
    folder: Path
    progress: Progress

    def store(self, method: Method) -> MethodFolder:
        """Where the method's finished rounds and evaluations are."""
        return MethodFolder(self.folder / "methods" / method.folder_name)

    def form(self, decoding: str) -> Form:
        """How adapters are read."""
        return reading_form(self.terms, self.prepared.schema, decoding)

    def test_sets(self) -> tuple[tuple[str, dict[str, float]], ...]:
        """(cohort, cost of reading it by decoding), the sites' own test notes first."""
        at_sites = [(info.name, dict(info.read_cost)) for info in self.sites.infos if info.read_cost]
        forms = [self.form(decoding) for decoding in ("constrained", "free")]
        here = [
            (cohort.name, {form.decoding: reading_cost(cohort.notes, form) for form in forms})
            for cohort in self.prepared.cohorts
        ]
        return (*at_sites, *here)


def run_study(
    study: Study,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    elsewhere: Callable[[Terms, Progress], Sites] | None = None,
) -> dict[str, Any]:
    """Run ``study`` into ``folder`` and return what ``results.json`` holds.

    ``elsewhere``: gives the sites of a study whose sites are not on this machine. With ``resume`` a run
    that was stopped goes on; the result is that of an uninterrupted run. Raises ``ValueError`` for
    whatever is wrong with the study, its notes or the folder.
    """
    assert (elsewhere is None) == study.sites_are_here, "a study knows where its sites are"
    progress = progress or Silent()
    base = load_base_model(
        study.model_name(),
        precision=study.model.precision,
        quantization=study.model.quantization,
        revision=study.model.revision,
    )
    if study.reads_under_grammar():
        refuse_unreadable(base.encoder)
    terms = terms_of(study, base)
    prepared = prepare(study, terms, base.encoder)
    model = with_lora(base, terms)
    _check_positions(base, study)
    if study.training.gradient_checkpointing:
        check_gradient_checkpointing(model)
    start = read_adapter(model)
    if elsewhere is None:
        sites: Sites = InProcess(base, model, prepared.schema, terms, prepared.sites, progress=progress)
    else:
        sites = elsewhere(terms, progress)
    identity = {
        "study_hash": study.study_hash(),
        "files": prepared.file_hashes | _files_of_sites(sites),
        "base_model": base.hash,
        "tokenizer": base.encoder.tokenizer_hash(),
        "chat template": list(base.encoder.frame),
        "precision": f"{base.precision} on {base.device.type}",
        "fedmedlora": __version__,
    }
    open_run(folder, identity, resume=resume)  # the first write: what is wrong has been refused by now
    run = Experiment(study, terms, prepared, sites, base, model, start, folder, progress)
    methods = methods_of(study, sites)
    progress.plan(_planned_cost(run, methods))
    records = [_run_method(run, method) for method in methods]
    UpdateCache(folder / "site-updates").clear()
    return _results(run, records, command)


def _files_of_sites(sites: Sites) -> dict[str, str]:
    """Of sites elsewhere, what they say their files' hash is."""
    return {f"site {info.name}": info.data_hash for info in sites.infos if info.data_hash}


def _check_positions(base: BaseModel, study: Study) -> None:
    """Raise ``ValueError`` where an example may be longer than the model can look at."""
    most = num_positions(base.model)
    if study.tasks.max_tokens > most:
        raise ValueError(
            f"[tasks] max_tokens: {study.tasks.max_tokens} is more than the {most} positions of the model "
            f"{plain_name(base)!r}; set it to {most} or less"
        )


def _run_method(run: Experiment, method: Method) -> dict[str, Any]:
    adapter = run.start
    rounds: list[dict[str, Any]] = []
    if method.rule is not None:
        adapter, rounds = _train(run, method)
        files = adapter_files(run.model, adapter, _manifest(run, method))
        for name, content in files.items():
            write_file(run.folder / "adapters" / method.folder_name / name, content)
    evaluations = []
    for decoding in _decodings(run.study, method):
        evaluations += _evaluate(run, method, adapter, decoding)
    return {
        "name": method.name,
        "label": method.label,
        "adapter": f"adapters/{method.folder_name}" if method.rule is not None else None,
        "seconds": float(sum(s["seconds"] for r in rounds for s in r["sites"])),
        "rounds": rounds,
        "evaluations": evaluations,
    }


def _train(run: Experiment, method: Method) -> tuple[Adapter, list[dict[str, Any]]]:
    assert method.rule is not None
    settings = local_training(run.terms)
    carrier = Participants(
        sites=method.sites,
        names=method.names,
        # "everybody" is no site: a site of that name keeps its updates elsewhere.
        cache=UpdateCache(run.folder / "site-updates" / ("all" if method.name == "centralized" else "site")),
    )
    examples = run.prepared.validation

    def loss_on_validation(adapter: Adapter) -> float:
        # The training loss, without an update.
        with run.progress.stage("validation loss of a site's adapter", validation_cost(examples)):
            return validation_loss(run.base, run.model, adapter, examples, settings)

    def losses_here(adapters: Mapping[str, Adapter]) -> dict[str, float]:
        return {site: loss_on_validation(adapter) for site, adapter in adapters.items()}

    def losses_at_sites(adapters: Mapping[str, Adapter]) -> dict[str, float]:
        found = method.sites.losses(method.names, adapters)
        return {site: mean_of_others(found, site) for site in adapters}

    by_sites = run.study.validates_by_sites()

    def watch(round_num: int, adapter: Adapter) -> dict[str, Any] | None:
        if not ((examples or by_sites) and run.study.evaluation.every_round):
            return None
        if by_sites:  # all of them, whichever trained: the curves of all methods are of the same notes
            losses = run.sites.losses([info.name for info in run.sites.infos], {_NEW: adapter})
            loss = mean_of_others(losses, _NEW)
        else:
            loss = loss_on_validation(adapter)
        form = run.form("constrained")
        form = replace(form, tasks=finders(form.tasks))
        told = loss if math.isfinite(loss) else None
        found: dict[str, Any] = {"loss": told, "ner_strict_f1": None, "ner_lenient_f1": None}
        notes = run.prepared.validation_notes
        if form.tasks and notes:
            label = f"round {round_num}: entities in the validation notes"
            with run.progress.stage(label, ner_cost(notes)) as advance:
                predictions = predict(run.base, run.model, notes, form, advance)
            entities = scores(notes, predictions, form, num_resamples=0, seed=0)["entities"]
            found["ner_strict_f1"] = entities["strict"]["f1"]
            found["ner_lenient_f1"] = entities["lenient"]["f1"]
        return found

    return run_rounds(
        run.start,
        method.rule,
        carrier,
        settings.num_rounds,
        store=run.store(method),
        validation_losses=losses_at_sites if by_sites else losses_here if examples else None,
        watch=watch,
    )


def _decodings(study: Study, method: Method) -> tuple[str, ...]:
    if is_instruction(study.tasks.names):
        return ("free",)  # an answer is in words of its own
    if method.rule is None:
        return ("constrained", "free") if study.evaluation.zero_shot_free else ("constrained",)
    return study.evaluation.decoding


def _evaluate(run: Experiment, method: Method, adapter: Adapter, decoding: str) -> list[dict[str, Any]]:
    """The method's scores on every cohort: what is known already, and the rest."""
    store = run.store(method)
    missing = [n for n, _ in run.test_sets() if not store.evaluation(n, decoding).exists()]
    here = {cohort.name: cohort for cohort in run.prepared.cohorts}
    at_sites = [name for name in missing if name not in here]
    if at_sites:
        for name, record, predictions in run.sites.read(at_sites, adapter, decoding, method.label):
            _keep(run, method, name, record, predictions)
    for name in missing:
        if name in here:
            found = evaluate_cohort(
                run.base,
                run.model,
                adapter,
                here[name],
                run.form(decoding),
                num_resamples=run.study.evaluation.bootstrap,
                seed=run.study.seed,
                label=method.label,
                progress=run.progress,
            )
            _keep(run, method, name, *found)
    return [read_json(store.evaluation(name, decoding)) for name, _ in run.test_sets()]


def _keep(
    run: Experiment, method: Method, cohort: str, record: dict[str, Any], predictions: Predictions | None
) -> None:
    decoding = record["decoding"]
    if predictions is not None:
        is_synthetic = any(r["name"] == cohort and r["synthetic"] for r in _cohort_records(run))
        _write_predictions(run, method, cohort, decoding, predictions, is_synthetic)
    write_json(run.store(method).evaluation(cohort, decoding), record)


def _cohort_records(run: Experiment) -> list[dict[str, Any]]:
    """Every cohort's entry in ``results.json``: the sites in the study's order, then the external ones."""
    return [dict(info.record) for info in run.sites.infos] + list(run.prepared.records)


def _write_predictions(
    run: Experiment,
    method: Method,
    cohort: str,
    decoding: str,
    predictions: Predictions,
    is_synthetic: bool,
) -> None:
    """Ids, offsets and types, or ids and scores; never text, whose notes they are."""
    kinds = {"end-to-end": predictions.end_to_end, "given-gold": predictions.given_gold}
    where = run.folder / "predictions" / method.folder_name / decoding
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


def _manifest(run: Experiment, method: Method) -> dict[str, Any]:
    study = run.study
    return manifest(
        run.base,
        run.prepared.schema,
        # Only what the method's own sites annotate.
        [annotates for info in method.infos() for annotates in info.annotates],
        tasks={
            "names": list(study.tasks.names),
            "modifier_scope": study.tasks.modifier_scope,
            "prompt_set": study.tasks.prompts,
        },
        adapter={
            "rank": study.adapter.rank,
            "alpha": study.adapter.alpha,
            "targets": study.adapter.targets,
            "method": method.name,
            "num_rounds": study.training.rounds,
        },
        loss=study.loss(),
        form=study.tasks.form,
    )


def _planned_cost(run: Experiment, methods: Sequence[Method]) -> float:
    total = 0.0
    shared: set[str] = set()  # sites whose first round another method has trained already
    by_sites = run.study.validates_by_sites()
    for method in methods:
        store = run.store(method)
        infos = method.infos()
        watched = bool(run.prepared.validation) and run.study.evaluation.every_round
        for round_num in range(1, run.study.training.rounds + 1) if method.rule else ():
            if store.is_finished(round_num):
                continue
            total += sum(i.train_cost for i in infos if round_num > 1 or i.name not in shared)
            if method.rule and method.rule.needs_validation:
                once = [i.loss_cost * (len(infos) - 1) for i in infos]
                total += sum(once) if by_sites else len(infos) * validation_cost(run.prepared.validation)
            if by_sites and run.study.evaluation.every_round:
                total += sum(info.loss_cost for info in run.sites.infos)
            if watched:
                total += validation_cost(run.prepared.validation) + ner_cost(run.prepared.validation_notes)
        shared |= set(method.names)
        for decoding in _decodings(run.study, method):
            for name, costs in run.test_sets():
                if not store.evaluation(name, decoding).exists():
                    total += costs.get(decoding, 0.0)
    return total


def _results(run: Experiment, methods: list[dict[str, Any]], command: Sequence[str]) -> dict[str, Any]:
    return {
        "format": "fedmedlora-results",
        "version": 1,
        "name": run.study.name,
        "created_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": list(command),
        "study": run.study.public_dict(),
        "environment": {
            "fedmedlora": __version__,
            "python": platform.python_version(),
            "torch": version("torch"),
            "transformers": version("transformers"),
            "peft": version("peft"),
            "platform": f"{platform.system()} {platform.machine()}",
            "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "device": run.base.device_name(),
            "seed": run.study.seed,
        },
        "model": {
            "name": plain_name(run.base),
            "hash": run.base.hash,
            "num_parameters": run.base.num_parameters,
            "adapter_parameters": run.start.num_parameters,
        },
        "cohorts": _cohort_records(run),
        "validation": run.prepared.validation_record,
        "methods": methods,
    }

"""A whole study: every method trained, every adapter measured on every cohort, one ``results.json``."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.aggregation.rule import Rule, load_rule
from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.extraction.grammar import refuse_unreadable
from fedmedlora.in_process import InProcess, LocalSite
from fedmedlora.manifest import manifest, plain_name
from fedmedlora.measure import Form, Predictions, predict, scores
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter
from fedmedlora.model.saved import adapter_files
from fedmedlora.prepare import Cohort, Prepared, prepare
from fedmedlora.progress import Progress, Silent
from fedmedlora.rounds import run_rounds
from fedmedlora.run_folder import MethodFolder, UpdateCache, open_run, read_json, write_file, write_json
from fedmedlora.study import Study
from fedmedlora.tasks.task import finders
from fedmedlora.training.site import LocalTraining, check_gradient_checkpointing, validation_loss
from fedmedlora.work_plan import ner_cost, reading_cost, training_cost, validation_cost

LABELS = {
    "zero_shot": "Zero-shot",
    "centralized": "Centralized",
    "fed_medlora": "Fed-MedLoRA",
    "fed_medlora_plus": "Fed-MedLoRA+",
}


@dataclass(frozen=True)
class Method:
    """One row of the main table. ``rule`` is None where nothing is trained."""

    name: str
    label: str
    rule: Rule | None
    sites: tuple[LocalSite, ...]

    @property
    def folder_name(self) -> str:
        """The name as a folder's: site names are safe, the colon is not everywhere."""
        return self.name.replace(":", "-")


@dataclass
class Experiment:
    """A study on its way: what is loaded once and used by every method."""

    study: Study
    prepared: Prepared
    base: BaseModel
    model: Any  # PEFT's model over ``base``
    start: Adapter
    folder: Path
    progress: Progress

    def methods(self) -> tuple[Method, ...]:
        """The study's methods, single-site training once per site."""
        sites = self.prepared.sites
        alone = load_rule("fed_medlora")
        found: list[Method] = []
        for name in self.study.methods:
            if name == "zero_shot":
                found.append(Method(name, LABELS[name], None, ()))
            elif name == "single_site":
                found += [Method(f"{name}:{s.name}", f"{s.name} alone", alone, (s,)) for s in sites]
            elif name == "centralized":
                # By name: the order of the sites in the study file plays no role.
                everybody = tuple(e for s in sorted(sites, key=lambda s: s.name) for e in s.examples)
                found.append(Method(name, LABELS[name], alone, (LocalSite("everybody", everybody),)))
            else:
                found.append(Method(name, LABELS.get(name, name), self.study.rule(name), sites))
        return tuple(found)

    def local_training(self, method: Method) -> LocalTraining:
        """The study's [training] as the settings of one site of ``method``."""
        t = self.study.training
        # Everybody's notes in one place, and the work that everybody does: else a method that sees as many
        # notes would be compared after a fraction of the steps.
        num_parts = len(self.prepared.sites) if method.name == "centralized" else 1
        return LocalTraining(
            num_rounds=t.rounds,
            examples_per_step=t.examples_per_step,
            micro_batch=t.micro_batch,
            steps=t.steps_per_round * num_parts,
            passes=t.passes_per_round,
            learning_rate=t.learning_rate,
            warmup_steps=t.warmup_steps,
            schedule=t.schedule,
            weight_decay=t.weight_decay,
            max_grad_norm=t.max_grad_norm,
            loss=self.study.loss(),
            decision_weight=t.decision_weight,
            batching=t.batching,
            gradient_checkpointing=t.gradient_checkpointing,
        )

    def store(self, method: Method) -> MethodFolder:
        """Where the method's finished rounds and evaluations are."""
        return MethodFolder(self.folder / "methods" / method.folder_name)

    def form(self, decoding: str) -> Form:
        """How adapters are read."""
        tasks = self.study.tasks
        return Form(
            schema=self.prepared.schema,
            tasks=tasks.names,
            prompt_set=tasks.prompts,
            scope=tasks.modifier_scope,
            output_form=tasks.form,
            decoding=decoding,
            batch_size=self.study.evaluation.batch_size,
        )


def run_study(
    study: Study,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Run ``study`` into ``folder`` and return what ``results.json`` holds.

    With ``resume`` a run that was stopped goes on; the result is that of an uninterrupted run. Raises
    ``ValueError`` for whatever is wrong with the study, its notes or the folder.
    """
    progress = progress or Silent()
    base = load_base_model(
        study.model_name(),
        precision=study.model.precision,
        quantization=study.model.quantization,
        revision=study.model.revision,
    )
    if study.reads_under_grammar():
        refuse_unreadable(base.encoder)
    prepared = prepare(study, base.encoder)
    identity = {
        "study_hash": study.study_hash(),
        "files": prepared.file_hashes,
        "base_model": base.hash,
        "tokenizer": base.encoder.tokenizer_hash(),
        "chat template": list(base.encoder.frame),
        "precision": f"{base.precision} on {base.device.type}",
        "fedmedlora": __version__,
    }
    model = attach_lora(
        base.model,
        rank=study.adapter.rank,
        alpha=study.adapter.alpha,
        dropout=study.adapter.dropout,
        targets=study.adapter.targets,
        seed=study.seed,
    )
    _check_positions(base, study)
    if study.training.gradient_checkpointing:
        check_gradient_checkpointing(model)
    open_run(folder, identity, resume=resume)  # the first write: what is wrong has been refused by now
    run = Experiment(study, prepared, base, model, read_adapter(model), folder, progress)
    methods = run.methods()
    progress.plan(_planned_cost(run, methods))
    records = [_run_method(run, method) for method in methods]
    UpdateCache(folder / "site-updates").clear()
    return _results(run, records, command)


def _check_positions(base: BaseModel, study: Study) -> None:
    """Raise ``ValueError`` where an example may be longer than the model can look at."""
    most = getattr(base.model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and study.tasks.max_tokens > most:
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
        evaluations += [_evaluate(run, method, adapter, cohort, decoding) for cohort in run.prepared.cohorts]
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
    settings = run.local_training(method)
    # Cosine and warm-up run over the rounds; the validation loss is the training loss without an update.
    carrier = InProcess(
        base=run.base,
        model=run.model,
        sites=method.sites,
        settings=settings,
        seed=run.study.seed,
        # "everybody" is no site: a site of that name keeps its updates elsewhere.
        cache=UpdateCache(run.folder / "site-updates" / ("all" if method.name == "centralized" else "site")),
        progress=run.progress,
        cost=lambda site: training_cost(site, settings),
    )
    examples = run.prepared.validation

    def loss_on_validation(adapter: Adapter) -> float:
        with run.progress.stage(
            "validation loss of a site's adapter", validation_cost(run.prepared.validation)
        ):
            return validation_loss(run.base, run.model, adapter, examples, settings)

    def watch(round_num: int, adapter: Adapter) -> dict[str, Any] | None:
        if not (examples and run.study.evaluation.every_round):
            return None
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
        validation_loss=loss_on_validation if examples else None,
        watch=watch,
    )


def _decodings(study: Study, method: Method) -> tuple[str, ...]:
    if method.rule is None:
        return ("constrained", "free") if study.evaluation.zero_shot_free else ("constrained",)
    return study.evaluation.decoding


def _evaluate(
    run: Experiment, method: Method, adapter: Adapter, cohort: Cohort, decoding: str
) -> dict[str, Any]:
    path = run.store(method).evaluation(cohort.name, decoding)
    known: dict[str, Any] | None = read_json(path)
    if known is not None:
        return known
    form = run.form(decoding)
    how = "" if decoding == "constrained" else ", free"
    began = time.perf_counter()
    write_adapter(run.model, adapter)
    label = f"{method.label}: reads {cohort.name}{how}"
    with run.progress.stage(label, reading_cost(cohort.notes, form)) as advance:
        predictions = predict(run.base, run.model, cohort.notes, form, advance)
    seconds = time.perf_counter() - began
    _write_predictions(run, method, cohort, decoding, predictions)
    record = {
        "cohort": cohort.name,
        "decoding": decoding,
        "num_examples": predictions.num_examples,
        "num_unparsed": predictions.num_unparsed,
        "num_ungrounded": predictions.num_ungrounded,
        "seconds": seconds,
        "scores": scores(
            cohort.notes,
            predictions,
            form,
            num_resamples=run.study.evaluation.bootstrap,
            seed=run.study.seed,
        ),
    }
    write_json(path, record)
    return record


def _write_predictions(
    run: Experiment, method: Method, cohort: Cohort, decoding: str, predictions: Predictions
) -> None:
    """Ids, offsets and types; never text, whose notes they are."""
    kinds = {"end-to-end": predictions.end_to_end, "given-gold": predictions.given_gold}
    for kind, found in kinds.items():
        if found is None:
            continue
        folder = run.folder / "predictions" / method.folder_name / decoding / kind
        path = folder / f"{cohort.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        notes = [replace(note, text="", group="", meta={}) for note in found.values()]
        header = {"name": cohort.name, "schema": run.prepared.schema.name, "synthetic": cohort.synthetic}
        write_notes(path, notes, header=header, with_text=False)


def _manifest(run: Experiment, method: Method) -> dict[str, Any]:
    study = run.study
    # Only what the method's own sites annotate: "everybody" of centralized training is no site, and is all.
    names = run.prepared.trained_on if method.name == "centralized" else [site.name for site in method.sites]
    return manifest(
        run.base,
        run.prepared.schema,
        [annotates for name in names for annotates in run.prepared.trained_on[name]],
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
    for method in methods:
        settings = run.local_training(method)
        store = run.store(method)
        watched = bool(run.prepared.validation) and run.study.evaluation.every_round
        for round_num in range(1, settings.num_rounds + 1) if method.rule else ():
            if store.is_finished(round_num):
                continue
            for site in method.sites:
                if round_num > 1 or site.name not in shared:
                    total += training_cost(site, settings)
                if method.rule and method.rule.needs_validation:
                    total += validation_cost(run.prepared.validation)
            if watched:
                total += validation_cost(run.prepared.validation) + ner_cost(run.prepared.validation_notes)
        shared |= {site.name for site in method.sites}
        for decoding in _decodings(run.study, method):
            for cohort in run.prepared.cohorts:
                if not store.evaluation(cohort.name, decoding).exists():
                    total += reading_cost(cohort.notes, run.form(decoding))
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
        "cohorts": list(run.prepared.records),
        "validation": run.prepared.validation_record,
        "methods": methods,
    }

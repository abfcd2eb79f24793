"""One run of a study: every method trained, every adapter measured on every cohort, one ``results.json``."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.audit.log_file import RunLog
from fedmedlora.audit.signing import Signer
from fedmedlora.encoder_sites import encoder_sites, uses_encoder
from fedmedlora.evaluate_method import decodings, evaluate
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import is_whole_model, take
from fedmedlora.extraction.grammar import refuse_unreadable
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import with_lora, workers_of
from fedmedlora.manifest import manifest, plain_name
from fedmedlora.methods import Method, methods_of
from fedmedlora.model.cache import num_positions
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import read_adapter
from fedmedlora.model.saved import adapter_files
from fedmedlora.model.weights import write_weights
from fedmedlora.new_site import adaptations
from fedmedlora.own_parts import OwnParts
from fedmedlora.planned_cost import planned_cost
from fedmedlora.prepare import prepare, terms_of
from fedmedlora.progress import Progress, Silent
from fedmedlora.run import Run
from fedmedlora.run_audit import begin, finish, told_of_a_stop
from fedmedlora.run_folder import EvaluationCache, SignalCache, UpdateCache, alone_in, open_run, write_file
from fedmedlora.sites import Sites
from fedmedlora.study import Study
from fedmedlora.study_forms import answers_read_by
from fedmedlora.study_public import public_settings
from fedmedlora.tasks.few_shot import Shots
from fedmedlora.terms import Terms
from fedmedlora.train_method import train
from fedmedlora.training.batches import refuse_padded_tags
from fedmedlora.training.optimizer import refuse_optimizer
from fedmedlora.training.processes import num_cores
from fedmedlora.training.site import check_gradient_checkpointing, refuse_rounded


def run_study(
    study: Study,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    elsewhere: Callable[[Terms, Progress], Sites] | None = None,
    shared: Path | None = None,
    log: RunLog | None = None,
    signer: Signer | None = None,
) -> dict[str, Any]:
    """Run ``study`` into ``folder`` and return what ``results.json`` holds.

    ``elsewhere``: gives the sites of a study whose sites are not on this machine. ``shared``: a folder of
    work that several runs have in common; what one has done, the next takes from there. ``log``: that of the
    run, which may hold something already. ``signer``: signs the adapters' passports. With ``resume`` a run
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
    trains = study.trains()
    if trains.model_here:
        refuse_optimizer(study.model.optimizer, base.device)
    if study.reads_under_grammar():
        refuse_unreadable(base.encoder)
    terms = terms_of(study, base)
    prepared = prepare(study, terms, base.encoder)
    model = with_lora(base, terms)
    _check_positions(base, study)
    if any(study.rule(name).local.trains == "model" for name in study.rule_names()):
        refuse_rounded(base)
    if trains.model and study.training.gradient_checkpointing:
        check_gradient_checkpointing(model)
    if trains.model and study.training.batching == "padded" and answers_read_by(study.tasks) == "tagging":
        refuse_padded_tags(model)
    start = read_adapter(model)
    workers = workers_of(base, terms, study.model) if elsewhere is None and trains.model_here else None
    if elsewhere is None:
        own = OwnParts(folder / "own")
        sites: Sites = InProcess(
            base,
            model,
            prepared.schema,
            terms,
            prepared.sites,
            start,
            own,
            progress=progress,
            here=study.model,
            workers=workers,
        )
    else:
        sites = elsewhere(terms, progress)
    identity = {
        "study_hash": study.study_hash(),
        "files": prepared.file_hashes | _files_of_sites(sites),
        "base_model": base.hash,
        "tokenizer": base.encoder.tokenizer_hash(),
        "chat template": list(base.encoder.frame),
        "prompts": terms.prompts,
        "precision": f"{base.precision} on {base.device.type}",
        "fedmedlora": __version__,
    }
    here = folder / "site-updates"
    run = Run(
        study,
        terms,
        prepared,
        sites,
        base,
        model,
        start,
        folder,
        progress,
        updates=UpdateCache(here / "shared" if shared is None else shared / "updates"),
        evaluations=None if shared is None else EvaluationCache(shared / "evaluations"),
        signals=SignalCache((here if shared is None else shared) / "signals"),
        log=log or RunLog(),
    )
    encoder = encoder_sites(study, terms, prepared, progress) if uses_encoder(study) else None
    if encoder is not None:
        identity["encoder"] = encoder.classifier.hash
    shots = Shots(study.few_shot.num_examples, terms.draw_seed(), prepared.shot_notes)
    methods = methods_of(study, sites, shots, encoder)
    methods = (*methods, *adaptations(run, methods))
    for method in methods:
        if method.adaptation is not None:
            run.followers.setdefault(method.adaptation.start, []).append(run.store(method))
    # The first write: what is wrong has been refused by now.
    goes_on = (folder / "run.json").exists()
    open_run(folder, identity, resume=resume, settings=public_settings(study))
    finals: dict[str, Adapter | None] = {}
    with alone_in(folder):
        # Another process may have begun a run there in the same moment.
        run_id = open_run(folder, identity, resume=True, settings=public_settings(study))
        if elsewhere is not None:  # those sites may work for other runs too, those here for this one alone
            methods = tuple(replace(method, run=run_id) for method in methods)
        begin(run, run_id, is_resumed=goes_on)
        progress.plan(planned_cost(run, methods))
        try:
            with told_of_a_stop(run.log):
                records = [_run_method(run, method, finals) for method in methods]
        finally:
            if workers is not None:
                workers.close()
            write_weights(base, model, start)  # a whole model that was trained gives way to the base again
        UpdateCache(here).clear()
        OwnParts(folder / "residuals").clear()  # no round follows
        results = _results(run, records, command)
        finish(run, run_id, methods, results, signer)
    return results


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


def _run_method(run: Run, method: Method, finals: dict[str, Adapter | None]) -> dict[str, Any]:
    adapter: Adapter | None = run.start
    travelling = run.start
    rounds: list[dict[str, Any]] = []
    if method.adaptation is not None:
        adapter = finals.get(method.adaptation.start, run.start)  # zero_shot is not always in methods
        assert adapter is not None, "refused with the study"
        travelling = adapter
    if method.rule is not None:
        assert adapter is not None, "only an adaptation starts from what others have trained"
        start = adapter if method.encoder is None else method.encoder.start
        travelling, adapter, rounds = train(run, method, start)
    finals[method.name] = adapter
    is_saved = method.rule is not None and adapter is not None and not is_whole_model(adapter)
    if is_saved and adapter is not None:
        files = adapter_files(run.model, adapter, _manifest(run, method))
        for name, content in files.items():
            write_file(run.folder / "adapters" / method.folder_name / name, content)
    evaluations, not_read = [], []
    for decoding in decodings(run.study, method):
        found, absent = evaluate(run, method, adapter, travelling, decoding)
        evaluations += found
        not_read += absent
    return {
        "name": method.name,
        "label": method.label,
        "adapter": f"adapters/{method.folder_name}" if is_saved else None,
        "trained_parameters": _trained_parameters(run, method),
        "usage": _usage(evaluations),
        "adaptation": None if method.adaptation is None else asdict(method.adaptation),
        "seconds": float(sum(s["seconds"] for r in rounds for s in r["sites"])),
        "rounds": rounds,
        "evaluations": evaluations,
        "not_read": not_read,
    }


def _usage(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What all ``evaluations`` asked of a model behind an endpoint; no cost where one of them has none."""
    found = [one["usage"] for one in evaluations if one.get("usage") is not None]
    if not found:
        return None
    total = {key: sum(one[key] for one in found) for key in found[0] if key not in ("cost", "currency")}
    costs = [one["cost"] for one in found]
    return total | {
        "cost": None if None in costs else math.fsum(costs),
        "currency": found[0]["currency"],
    }


def _trained_parameters(run: Run, method: Method) -> int | None:
    if method.rule is None:
        return None
    if method.encoder is not None:
        return method.encoder.classifier.num_parameters
    trains = method.rule.local.trains
    return run.base.num_parameters if trains == "model" else take(run.start, trains).num_parameters


def _manifest(run: Run, method: Method) -> dict[str, Any]:
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


def _results(run: Run, methods: list[dict[str, Any]], command: Sequence[str]) -> dict[str, Any]:
    return {
        "format": "fedmedlora-results",
        "version": 1,
        "name": run.study.name,
        "created_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": list(command),
        "study": public_settings(run.study),
        "environment": {
            "fedmedlora": __version__,
            "python": platform.python_version(),
            "torch": version("torch"),
            "transformers": version("transformers"),
            "peft": version("peft"),
            "platform": f"{platform.system()} {platform.machine()}",
            "num_cores": num_cores(),
            "device": run.base.device_name(),
            "seed": run.study.seed,
        },
        "model": {
            "name": plain_name(run.base),
            "hash": run.base.hash,
            "num_parameters": run.base.num_parameters,
            "adapter_parameters": run.start.num_parameters,
        },
        "cohorts": run.cohort_records(),
        "validation": run.prepared.validation_record,
        "methods": methods,
    }

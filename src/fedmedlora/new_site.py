"""A hospital that joins late and has few notes: adapt a federated adapter there, or train from scratch.

Each number of notes and each start is a method of its own, trained as every other one is: a federation of
one site that begins with a given adapter. The notes are nested: the first 5 are among the first 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedmedlora.aggregation.rule import load_rule
from fedmedlora.corpora.draw import draw_notes
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import prepare_site
from fedmedlora.methods import Adaptation, Method
from fedmedlora.own_parts import OwnParts
from fedmedlora.run import Run
from fedmedlora.study import Study
from fedmedlora.terms import Terms
from fedmedlora.training.schedule import steps_per_round


def adaptations(run: Run, methods: Sequence[Method]) -> tuple[Method, ...]:
    """One method per new site, number of notes and start; ``methods``: those that a start may name.

    Raises ``ValueError`` for more notes than a new site has.
    """
    labels = {method.name: method.label for method in methods}
    found = []
    for site, train in run.prepared.new_sites.items():
        for num_notes in run.study.adaptation.num_notes:
            sites = _site(run, site, train, num_notes) if num_notes else None
            for start in starts_of(run.study):
                where = "from scratch" if start == "zero_shot" else f"from {labels[start]}"
                found.append(
                    Method(
                        name=f"new_site:{site}:{num_notes}:{start}",
                        label=f"{site}, {num_notes} notes, {where}",
                        rule=load_rule("fed_medlora") if sites else None,
                        sites=sites or run.sites,
                        names=(site,) if sites else (),
                        adaptation=Adaptation(site, num_notes, start),
                        num_rounds=1,
                    )
                )
    return tuple(found)


def starts_of(study: Study) -> tuple[str, ...]:
    """Methods whose adapter a new site starts from, in the order of the study."""
    return study.adaptation.starts or study.known_starts()


def _site(run: Run, name: str, train: NoteSet, num_notes: int) -> InProcess:
    try:
        notes = draw_notes(train.notes, num_notes, seed=run.study.seed, name=f"{name}/adaptation")
    except ValueError as error:
        raise ValueError(f"[adaptation] num_notes: {name}: {error}") from error
    # Notes of few sentences would otherwise be held out for others, who are not asked here.
    terms = replace(run.terms, held_out_sentences=0)
    schema = run.prepared.schema
    few = NoteSet(notes, train.header)
    source = f"its first {num_notes} notes"
    site = prepare_site(terms, run.base.encoder, schema, name, few, None, source=source)
    return InProcess(
        run.base,
        run.model,
        schema,
        _adapting(terms, run.study, len(site.examples)),
        (site,),
        run.start,
        OwnParts(run.folder / "own"),
        progress=run.progress,
        here=run.study.model,
        workers=run.sites.workers if isinstance(run.sites, InProcess) else None,
    )


def _adapting(terms: Terms, study: Study, num_examples: int) -> Terms:
    """``terms`` with the training of ``[adaptation]``: one round of as many steps as the passes take."""
    adaptation = study.adaptation
    steps = steps_per_round(
        num_examples,
        examples_per_step=terms.training.examples_per_step,
        steps_per_round=0,
        passes_per_round=adaptation.passes,
    )
    steps = max(steps, adaptation.least_steps)
    training = replace(
        terms.training,
        rounds=1,
        steps_per_round=steps,
        learning_rate=adaptation.learning_rate,
        warmup_steps=min(terms.training.warmup_steps, steps // 5),
    )
    return replace(terms, training=training)

"""Sites as a study describes them: fewer notes, worse labels, fewer types, dealt anew to other sites.

Only for notes that lie here: what a real hospital trains on is its own decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedmedlora.corpora.draw import different, draw_notes
from fedmedlora.corpora.federate import deal
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.label_noise import corrupt
from fedmedlora.corpora.restrict import restrict
from fedmedlora.corpora.schema import Schema
from fedmedlora.exchange.update import check_site_name
from fedmedlora.study import Study
from fedmedlora.study_tables import Site


def shaped(site: Site, found: NoteSet, schema: Schema, seed: int) -> NoteSet:
    """The training notes of ``site`` as the study wants them. Raises ``ValueError``, naming the site."""
    if not site.is_shaped:
        return found
    try:
        notes = found.notes
        if site.max_notes:
            num = min(site.max_notes, len(different(notes)))
            notes = draw_notes(notes, num, seed=seed, name=f"{site.name}/train")
        if (site.entities, site.modifiers) != ("all", "all"):
            entities = None if isinstance(site.entities, str) else site.entities
            modifiers = None if isinstance(site.modifiers, str) else site.modifiers
            notes = restrict(notes, schema, entities=entities, modifiers=modifiers)
        if site.label_noise:
            notes, _ = corrupt(notes, site.label_noise, schema, seed=seed)
    except ValueError as error:
        raise ValueError(f"[[sites]] {site.name}: {error}") from error
    return replace(found, notes=notes)


def dealt(study: Study, train: Mapping[str, NoteSet]) -> dict[str, NoteSet]:
    """The training notes of all sites dealt to ``federation.num_sites`` simulated ones.

    Raises ``ValueError`` for what ``deal`` refuses, and where a simulated site cannot be called as it is.
    """
    federation = study.federation
    try:
        parts = deal(
            {name: found.notes for name, found in train.items()},
            federation.num_sites,
            how=federation.deal,
            seed=study.draw_seed(),
            concentration=federation.concentration,
        )
        names = [site.name for site in study.sites] + [cohort.name for cohort in study.cohorts]
        taken = {name.lower() for name in names}
        for name in parts:
            check_site_name(name)
            if name.lower() in taken:
                raise ValueError(
                    f"a simulated site is called {name!r}, and so is one of [[sites]] or [[cohorts]]; give "
                    "that one another name"
                )
    except ValueError as error:
        raise ValueError(f"[federation]: {error}") from error
    header = {"synthetic": all(found.header.get("synthetic") for found in train.values())}
    return {name: NoteSet(notes, header) for name, notes in parts.items()}

"""What a study trains, and where: settings of training have an effect there alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.study_tables import Adaptation, Cohort

_READS_ONLY = ("zero_shot", "few_shot", "endpoint")


@dataclass(frozen=True, slots=True)
class Trains:
    """``encoder``: the token classifier, by methods of its own. ``model``: the language model, or an adapter
    of it, by anybody. ``model_here``: by the process that runs the study.
    """

    encoder: bool
    model: bool
    model_here: bool

    @property
    def anything(self) -> bool:
        """Whether anything is trained anywhere."""
        return self.encoder or self.model


def what_trains(
    methods: Sequence[str], cohorts: Sequence[Cohort], adaptation: Adaptation, *, sites_are_here: bool
) -> Trains:
    """What a study of these settings trains."""
    encoder = any(name.startswith("encoder_") for name in methods)
    by_sites = any(name not in _READS_ONLY and not name.startswith("encoder_") for name in methods)
    # A new site is trained where the run is, wherever the others are, and also beside zero_shot alone.
    joins = any(cohort.train for cohort in cohorts) and any(adaptation.num_notes)
    return Trains(encoder, by_sites or joins, joins or (by_sites and sites_are_here))

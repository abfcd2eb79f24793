"""One run of a study on its way: what is loaded once and used by every method."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmedlora.audit.log_file import RunLog
from fedmedlora.cohort import reading_form
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.measure import Form
from fedmedlora.methods import Method
from fedmedlora.model.load import BaseModel
from fedmedlora.prepare import Prepared
from fedmedlora.progress import Progress
from fedmedlora.run_folder import EvaluationCache, MethodFolder, SignalCache, UpdateCache
from fedmedlora.sites import Sites
from fedmedlora.study import Study
from fedmedlora.terms import Terms
from fedmedlora.work_plan import reading_cost


@dataclass
class Run:
    """One seed of one study. ``model``: PEFT's over ``base``. ``start``: the untrained adapter.

    ``updates``, ``evaluations``, ``signals``: work that other methods, and other runs, may have done already.
    ``log``: the run's audit log. ``followers``: method -> where the rounds are
    of what begins with its last adapter.
    """

    study: Study
    terms: Terms
    prepared: Prepared
    sites: Sites
    base: BaseModel
    model: Any
    start: Adapter
    folder: Path
    progress: Progress
    updates: UpdateCache
    evaluations: EvaluationCache | None
    signals: SignalCache
    log: RunLog = field(default_factory=RunLog)
    followers: dict[str, list[MethodFolder]] = field(default_factory=dict)

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

    def cohort_records(self) -> list[dict[str, Any]]:
        """Every cohort's entry in ``results.json``: the sites in the study's order, then the others."""
        return [dict(info.record) for info in self.sites.infos] + list(self.prepared.records)

"""The embedded carrier: the sites train one after the other in this process, over one base model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.model.load import BaseModel
from fedmedlora.model.tokens import TokenExample
from fedmedlora.progress import Progress
from fedmedlora.rounds import SiteReport
from fedmedlora.run_folder import UpdateCache
from fedmedlora.training.site import LocalTraining, train_round


@dataclass(frozen=True, slots=True)
class LocalSite:
    """One site on this machine: its name and what it trains on."""

    name: str
    examples: tuple[TokenExample, ...]

    def num_target_tokens(self, loss: str) -> int:
        """Target tokens of the site's examples that ``loss`` supervises: its data size, n_k."""
        if loss == "decision":
            return sum(1 for example in self.examples for choices in example.choices if choices)
        return sum(len(example.target) for example in self.examples)


@dataclass(frozen=True)
class InProcess:
    """Trains ``sites`` in turn. What was trained before (same start, site, round) is not trained again.

    The first round of every rule starts from the same adapter, so the rules share its training.
    """

    base: BaseModel
    model: Any  # PEFT's model over ``base``
    sites: Sequence[LocalSite]
    settings: LocalTraining
    seed: int
    cache: UpdateCache
    progress: Progress
    cost: Callable[[LocalSite], float]  # work of one round at a site, in the plan's units

    def train(self, round_num: int, current: Adapter) -> list[SiteReport]:
        """See ``rounds.Carrier``."""
        return [self._report(site, round_num, current) for site in self.sites]

    def _report(self, site: LocalSite, round_num: int, current: Adapter) -> SiteReport:
        started_from = current.hash()
        known = self.cache.load(site.name, round_num, started_from)
        if known is None:
            label = f"round {round_num}/{self.settings.num_rounds}: {site.name} trains"
            with self.progress.stage(label, self.cost(site)) as advance:
                result = train_round(
                    self.base,
                    self.model,
                    current,
                    site.examples,
                    self.settings,
                    site=site.name,
                    round_num=round_num,
                    seed=self.seed,
                    on_step=lambda step, num_steps, loss: advance(step, num_steps, f"loss {loss:.3f}"),
                )
            update = SiteUpdate(
                site=site.name,
                round_num=round_num,
                adapter=result.adapter,
                started_from=started_from,
                num_target_tokens=site.num_target_tokens(self.settings.loss),
            )
            known = (
                update,
                {
                    "num_examples": result.num_examples,
                    "train_loss": result.train_loss,
                    "seconds": result.seconds,
                    "upload_bytes": len(update.to_bytes()),
                    "download_bytes": len(current.to_bytes()),
                    "peak_memory_bytes": result.peak_memory_bytes,
                },
            )
            self.cache.save(*known)
        update, numbers = known
        return SiteReport(update=update, **numbers)

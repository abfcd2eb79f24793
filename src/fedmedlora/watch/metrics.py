"""A ``Status`` as Prometheus metrics, in its text format.

Names and units by https://prometheus.io/docs/practices/naming. A registry of its own for every answer: this
package's default one would tell of this process, too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from fedmedlora.live_record import SiteState, Stage, utc_time
from fedmedlora.report.markup import visible
from fedmedlora.watch.status import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HOW = "prometheus_client is not installed here: pip install 'fedmedlora[metrics]'"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """``samples``: labels and value. A counter's name ends in ``_total``."""

    name: str
    meaning: str
    samples: Sequence[tuple[Labels, float]]

    @property
    def kind(self) -> str:
        """counter or gauge."""
        return "counter" if self.name.endswith("_total") else "gauge"


def is_installed() -> bool:
    """Whether ``metrics_text`` can be called."""
    return importlib.util.find_spec("prometheus_client") is not None


def metrics_text(status: Status) -> bytes:
    """The metrics of ``status``. Raises ``ValueError`` where prometheus_client is not installed."""
    if not is_installed():
        raise ValueError(HOW)
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client import Metric as Family

    class _Collector:
        def collect(self) -> Iterable[Family]:
            for metric in metrics(status):
                family = Family(metric.name.removesuffix("_total"), metric.meaning, metric.kind)
                for labels, value in metric.samples:
                    shown = {key: visible(label) for key, label in labels.items()}
                    family.add_sample(metric.name, shown, value)
                yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector())
    return generate_latest(registry)


def metrics(status: Status) -> tuple[Metric, ...]:
    """All of them; those that nobody knows have no samples and are left out."""
    found = (*_of_run(status), *_of_sites(status), *_of_rounds(status))
    return tuple(metric for metric in found if metric.samples)


def _of_run(status: Status) -> tuple[Metric, ...]:
    return (
        Metric("fedmedlora_run_info", "The study that is watched.", [({"study": status.study}, 1.0)]),
        Metric(
            "fedmedlora_running",
            "1: the coordinator is at work; 0: it ended, or has given no sign of life for a while.",
            _known({}, status.is_alive),
        ),
        Metric(
            "fedmedlora_stage",
            "1: the run is at this stage.",
            [({"stage": one}, float(one == status.stage)) for one in get_args(Stage)] if status.stage else [],
        ),
        Metric("fedmedlora_stage_start_timestamp_seconds", "When it began.", _moment({}, status.since_utc)),
        Metric("fedmedlora_round", "The round at hand, from 1; 0: none.", [({}, float(status.round_num))]),
        Metric(
            "fedmedlora_rounds_total",
            "Finished rounds of each method.",
            [({"method": one.name}, float(one.num_done)) for one in status.methods],
        ),
        Metric(
            "fedmedlora_rounds_planned",
            "Rounds of each method as the study has them.",
            [s for one in status.methods for s in _known({"method": one.name}, one.num_planned)],
        ),
        Metric(
            "fedmedlora_rounds_left_seconds",
            "What the rounds that are left will take, by the finished ones.",
            _known({}, status.seconds_left),
        ),
    )


def _of_sites(status: Status) -> tuple[Metric, ...]:
    sites = [({"site": site.name}, site) for site in status.sites]
    states = [(label, site) for label, site in sites if site.state]
    ways = [
        ({**label, "direction": direction}, float(num_bytes))
        for label, site in sites
        for direction, num_bytes in (("up", site.upload_bytes), ("down", site.download_bytes))
    ]
    return (
        Metric(
            "fedmedlora_site_connected",
            "1: the site is connected.",
            [sample for label, site in sites for sample in _known(label, site.is_connected)],
        ),
        Metric(
            "fedmedlora_site_last_seen_timestamp_seconds",
            "When the site was last known to be connected.",
            [sample for label, site in sites for sample in _moment(label, site.seen_utc)],
        ),
        Metric(
            "fedmedlora_site_state",
            "1: the site is in this state.",
            [
                ({**label, "state": one}, float(one == site.state))
                for label, site in states
                for one in get_args(SiteState)
            ],
        ),
        Metric("fedmedlora_bytes_total", "Questions and answers, up from a site and down to it.", ways),
        Metric(
            "fedmedlora_refusals_total",
            "Questions that the site would not answer.",
            [(label, float(site.num_refusals)) for label, site in sites],
        ),
        Metric(
            "fedmedlora_updates_not_admitted_total",
            "Updates of the site that were not let in.",
            [(label, float(site.num_not_let_in)) for label, site in sites],
        ),
        Metric(
            "fedmedlora_absences_total",
            "Finished rounds that went on without the site.",
            [(label, float(site.num_absences)) for label, site in sites],
        ),
        Metric(
            "fedmedlora_site_weight",
            "Weight of the site in its last finished round.",
            [sample for label, site in sites for sample in _known(label, site.weight)],
        ),
    )


def _of_rounds(status: Status) -> tuple[Metric, ...]:
    last = {one.method: one for one in status.rounds}
    of_method = [({"method": method}, one) for method, one in last.items()]
    f1 = [
        sample
        for label, one in of_method
        for criterion, value in (("strict", one.strict_f1), ("lenient", one.lenient_f1))
        for sample in _known({**label, "criterion": criterion}, value)
    ]
    return (
        Metric(
            "fedmedlora_loss",
            "Loss on the validation notes after the last finished round, nats.",
            [sample for label, one in of_method for sample in _known(label, one.loss)],
        ),
        Metric(
            "fedmedlora_training_loss",
            "Mean training loss of the last finished round, nats.",
            [sample for label, one in of_method for sample in _known(label, one.train_loss)],
        ),
        Metric("fedmedlora_f1", "F1 of entities in the validation notes after the last finished round.", f1),
        Metric(
            "fedmedlora_round_duration_seconds",
            "What the last finished round took.",
            [(label, one.seconds) for label, one in of_method],
        ),
    )


def _known(labels: Labels, value: float | None) -> list[tuple[Labels, float]]:
    return [] if value is None else [(labels, float(value))]


def _moment(labels: Labels, utc: str) -> list[tuple[Labels, float]]:
    return [(labels, utc_time(utc).timestamp())] if utc else []

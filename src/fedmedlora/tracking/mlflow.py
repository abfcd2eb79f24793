"""MLflow: one run in the experiment of the study's name, wherever MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAX_VALUE = 500  # characters that MLflow keeps of a setting


class Flow:
    """See ``tracker.Tracker``."""

    def __init__(self, study: str, run: str) -> None:
        """A new run in the experiment ``study``."""
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        known = self._client.get_experiment_by_name(study)
        experiment = known.experiment_id if known else self._client.create_experiment(study)
        self._run = self._client.create_run(experiment, run_name=run).info.run_id

    def settings(self, found: Mapping[str, str]) -> None:
        """See ``tracker.Tracker``."""
        for name, value in found.items():
            self._client.log_param(self._run, name, value[:_MAX_VALUE])

    def number(self, name: str, value: float, step: int) -> None:
        """See ``tracker.Tracker``."""
        self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """See ``tracker.Tracker``."""
        self._client.set_terminated(self._run)


def require() -> None:
    """Raise ``ValueError`` where the library is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise ValueError(
            'tracker "mlflow": its library is not installed: pip install mlflow (or mlflow-skinny, for a '
            "server elsewhere)"
        )


def open_tracker(study: str, run: str, folder: Path) -> Flow:
    """The tracker of one run. ``folder`` plays no role: MLflow knows its own place."""
    return Flow(study, run)

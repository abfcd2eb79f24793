"""A plan as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fedmedlora.plan.devices import GPU_SHARE
from fedmedlora.plan.plan import StudyPlan

_ASSUMED = "assumed"


def show_plan(plan: StudyPlan, console: Console) -> None:
    """Print ``plan``."""
    share = plan.adapter_parameters / plan.num_parameters
    console.print(
        f"{plan.model} ({plan.source}; tokenizer: {plan.tokenizer}): {plan.num_parameters:,} parameters, "
        "adapter "
        f"{plan.adapter_parameters:,} ({share:.2%})\n"
    )
    if plan.traffic:
        console.print(
            _traffic(plan), "\nExact: the bytes of the messages themselves; TLS and Flower add theirs.\n"
        )
    if plan.devices:
        console.print(_devices(plan))
        console.print(
            "\nMemory: of training, computed by running a step on shapes alone. Time: a rough estimate of "
            "one run's arithmetic at that speed; loading the model and the notes is not in it (docs/plan.md)."
        )
        if any(one.speed.endswith(_ASSUMED) for one in plan.devices):
            console.print(
                f"A GPU's speed is assumed, not measured: {GPU_SHARE:.0%} of its maker's peak in bfloat16. "
                "Small models and short notes reach a small part of that, so a run may take many times as "
                "long."
            )
    if plan.num_runs > 1:
        console.print(
            f"The file asks for {plan.num_runs} runs (arms and seeds); all of this is of the first. Several "
            "at a time (run --jobs) take this memory each."
        )
    if plan.left_out:
        console.print(f"Not in these numbers: {', '.join(plan.left_out)}.")


def _traffic(plan: StudyPlan) -> Table:
    table = Table(
        title="Traffic: one site in one round down and up, and all sites and rounds", title_justify="left"
    )
    table.add_column("method")
    columns = ("trained", "bytes down", "bytes up", "in all", "of full")
    for title in columns:
        table.add_column(title, justify="right")
    for one in plan.traffic:
        share = (one.download_bytes + one.upload_bytes) / (2 * plan.model_bytes)
        table.add_row(
            one.label,
            f"{one.trained_parameters:,}",
            f"{one.download_bytes:,}",
            f"{one.upload_bytes:,}",
            size(one.total_bytes),
            f"{share:.1%}",
        )
    return table


def _devices(plan: StudyPlan) -> Table:
    table = Table(title="One site's training at a time", title_justify="left")
    table.add_column("device")
    table.add_column("weights")
    for title in ("peak memory", "of", "time"):
        table.add_column(title, justify="right")
    table.add_column("at a speed of")
    table.add_column("fits")
    for one in plan.devices:
        advice = "yes" if one.fits else f"no: {one.advice}"
        table.add_row(
            one.device,
            one.precision,
            size(one.memory_bytes),
            size(one.has_bytes),
            duration(one.seconds),
            one.speed,
            advice,
        )
    return table


def size(num_bytes: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Estimated seconds for people."""
    if seconds < 1:
        return "below 1 s"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"

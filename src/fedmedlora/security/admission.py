"""What the coordinator looks at before an update may touch an average: is it the answer that was asked for?

Bytes have been read strictly by then (``exchange/wire.py``: safetensors, float32, no pickle, lengths that the
file has), and who sent them is for Flower to say (TLS, the site's key). Here: the site's name, the round, the
adapter that it started from, names and shapes, finite values, what it stands on, and how far it moved.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.security.change_norm import array_norms


class NotAdmitted(ValueError):  # noqa: N818 - an answer, not a mistake
    """An update is not let in; the words are for the round's record, and hold nothing but names and
    numbers."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far one update may move the adapter. ``max_norm``: at most; ``max_ratio``: at most so many times
    the median of those before. 0: any."""

    max_norm: float = 0.0
    max_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Basis:
    """What an update stands on, each by its sha256: two of them mean the same only where all four agree."""

    base_model: str
    tokenizer: str
    chat_template: str
    prompts: str


def admit(
    update: SiteUpdate,
    *,
    site: str,
    round_num: int,
    started_from: str,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, float]:
    """Raise ``NotAdmitted`` unless ``update`` answers what ``site`` was asked in this round. Returns
    the norms of its arrays, which show in one pass that they are finite.

    ``started_from``: hash of the adapter that the round began with; ``shapes``: of its arrays.
    """
    if update.site != site:
        raise NotAdmitted(f"an update in the name of {update.site!r}")
    if update.round_num != round_num:
        raise NotAdmitted(f"an update of round {update.round_num}")
    if update.started_from != started_from:
        raise NotAdmitted(
            f"it started from adapter {update.started_from[:12]}, the current one is {started_from[:12]}"
        )
    own = update.adapter.shapes()
    missing, more = sorted(shapes.keys() - own.keys()), sorted(own.keys() - shapes.keys())
    if missing:
        raise NotAdmitted(f"{len(missing)} of {len(shapes)} arrays are missing, {missing[0]!r} first")
    if more:
        raise NotAdmitted(f"{len(more)} arrays that the adapter does not have")
    for name, shape in shapes.items():
        if own[name] != shape:
            raise NotAdmitted(f"array {name!r} has shape {own[name]}, and not {shape}")
    norms = array_norms(update.adapter)
    if not all(map(math.isfinite, norms.values())):  # or finite, and so large that a norm is not
        diverged = update.adapter.non_finite()
        if diverged is not None:
            raise NotAdmitted(f"array {diverged!r} holds NaN or infinity: its training has diverged")
    return norms


def admit_basis(found: Basis | None, wanted: Basis) -> None:
    """Raise ``NotAdmitted`` unless an update stands on ``wanted``. ``found``: what its site says that it
    holds; None: it says nothing."""
    if found is None:
        raise NotAdmitted("it does not say with which base model and prompts it was made")
    for what in (one.name for one in fields(Basis)):
        own, asked = getattr(found, what), getattr(wanted, what)
        if own != asked:
            raise NotAdmitted(
                f"it was made with another {what.replace('_', ' ')}: sha256 {own[:12]}, and not {asked[:12]}"
            )


def admit_norm(norm: float, before: Sequence[float], bounds: Bounds) -> None:
    """Raise ``NotAdmitted`` for a change of ``norm`` that is out of ``bounds``.

    ``before``: norms of the updates that were let in in earlier rounds of the run.
    """
    if bounds.max_norm and norm > bounds.max_norm:
        raise NotAdmitted(f"it moved by {norm:.4g}, and max_change_norm is {bounds.max_norm:.4g}")
    if bounds.max_ratio and before:
        usual = statistics.median(before)
        if norm > bounds.max_ratio * usual:
            raise NotAdmitted(
                f"it moved by {norm:.4g}, the median so far is {usual:.4g}, and max_norm_ratio is "
                f"{bounds.max_ratio:.4g}"
            )

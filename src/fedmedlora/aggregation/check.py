"""What every rule refuses before it does any arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from fedmedlora.exchange.adapter import Adapter, refuse_non_finite
from fedmedlora.exchange.update import SiteUpdate


def check_updates(updates: Sequence[SiteUpdate]) -> tuple[SiteUpdate, ...]:
    """``updates`` sorted by site, so that no sum depends on the order in which they arrived.

    Raises ValueError for no update, two of one site, updates of different rounds, and when no site
    trained on anything (all ``num_target_tokens`` are 0: there is nothing to weigh).
    """
    ordered = tuple(sorted(updates, key=lambda update: update.site))
    check_sizes([(update.site, update.round_num, update.num_target_tokens) for update in ordered])
    return ordered


def check_sizes(found: Sequence[tuple[str, int, int]]) -> None:
    """Of (site, round, supervised target tokens), sorted, refuse what ``check_updates`` does."""
    if not found:
        raise ValueError("no updates: a round needs the update of at least one site")
    for (site, _, _), (following, _, _) in pairwise(found):
        if site == following:
            raise ValueError(f"two updates of site {site!r} in one round; a site counts once")
    rounds = sorted({round_num for _, round_num, _ in found})
    if len(rounds) > 1:
        raise ValueError(f"updates of different rounds {rounds}; aggregate one round at a time")
    if not any(num_tokens for _, _, num_tokens in found):
        raise ValueError(
            "no site trained on any target token (num_target_tokens is 0 everywhere); "
            "check that the training files hold notes and that max_tokens does not leave all of them out"
        )


def check_fit(current: Adapter, updates: Sequence[SiteUpdate]) -> None:
    """Raise ValueError unless every update continues ``current`` and is finite.

    Each must have started from ``current`` (by hash) and hold its names and shapes.
    """
    refuse_non_finite(current, "current adapter")
    expected, shapes = current.hash(), current.shapes()
    for update in updates:
        check_one(expected, shapes, update)


def check_alike(updates: Sequence[SiteUpdate]) -> None:
    """Raise ValueError unless all updates have the names and shapes of the first and are finite.

    For weights that are found from arrays, where the adapter that they started from is not known.
    """
    for update in updates:
        check_one(updates[0].started_from, updates[0].adapter.shapes(), update)


def check_one(expected: str, shapes: Mapping[str, tuple[int, ...]], update: SiteUpdate) -> None:
    """Raise ValueError unless ``update`` continues the adapter of hash ``expected`` and is finite."""
    whose = f"update of {update.site!r}"
    own = update.adapter.shapes()
    for name in sorted(own.keys() ^ shapes.keys()):
        told = "lacks array" if name in shapes else "has an array that the current adapter lacks:"
        raise ValueError(f"{whose} {told} {name!r}; every site trains the same targets")
    for name, shape in shapes.items():
        if own[name] != shape:
            raise ValueError(
                f"{whose}: array {name!r} has shape {own[name]}, the current adapter has {shape}; "
                "every site trains the same rank"
            )
    if update.started_from != expected:
        raise ValueError(
            f"{whose} started from adapter {update.started_from[:12]}, the current one is "
            f"{expected[:12]}; the site must train on from the current adapter"
        )
    refuse_non_finite(update.adapter, whose)

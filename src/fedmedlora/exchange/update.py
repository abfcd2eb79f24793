"""A ``SiteUpdate``: what one site sends back after one round. Nothing else leaves a site."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmedlora.exchange.adapter import Adapter, refuse_non_finite
from fedmedlora.exchange.wire import pack, packed_bytes, unpack

FORMAT = "fedmedlora-update"
VERSION = 1
SITE_NAME_RULE = "1 to 64 of A-Z a-z 0-9 - _ . (not beginning or ending with . and not beginning with -)"
_SITE_NAME = re.compile(r"(?![.-])[A-Za-z0-9._-]{1,64}(?<!\.)")
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_COUNT = 2**53  # up to here a count is exact as a float, and weights are computed from it


@dataclass(frozen=True, slots=True)
class SiteUpdate:
    """One site's adapter after training and what the coordinator needs to weigh it.

    ``round_num``: from 1. ``adapter``: the whole adapter after training, not a difference.
    ``started_from``: ``Adapter.hash()`` of the adapter that the site began the round with.
    ``num_target_tokens``: supervised target tokens of the site's training examples: its data size (n_k).
    ``validation_loss``: mean loss of ``adapter`` on the coordinator's validation set (L_k), nats per
    supervised position. Filled in by the coordinator (``dataclasses.replace``), never by a site: it is
    not part of the bytes, so a site cannot claim one. ``mixing_weight``: the same, for rules whose weights
    are learned on validation examples.

    Raises ValueError for a name that could not safely name a file, a round below 1, a malformed hash or
    a negative count.
    """

    site: str
    round_num: int
    adapter: Adapter
    started_from: str
    num_target_tokens: int
    validation_loss: float | None = None
    mixing_weight: float | None = None

    def __post_init__(self) -> None:
        check_site_name(self.site)
        if not _is_count(self.round_num) or self.round_num < 1:
            raise ValueError(f"update of {self.site!r}: round_num is {self.round_num!r}; rounds count from 1")
        if not isinstance(self.started_from, str) or not _HASH.fullmatch(self.started_from):
            raise ValueError(
                f"update of {self.site!r}: started_from is not an adapter hash (64 lowercase hex digits)"
            )
        if not _is_count(self.num_target_tokens):
            raise ValueError(
                f"update of {self.site!r}: num_target_tokens is {self.num_target_tokens!r}; "
                "it is a whole number from 0 to 2**53"
            )

    def to_bytes(self) -> bytes:
        """safetensors bytes: the adapter's arrays, everything else as metadata; no validation loss."""
        record = _record(self.site, self.round_num, self.started_from, self.num_target_tokens)
        return pack(self.adapter.arrays, record)

    @staticmethod
    def from_bytes(data: bytes, *, check_finite: bool = False) -> SiteUpdate:
        """The update that ``to_bytes`` wrote, without a validation loss.

        Raises ValueError when ``data`` is anything else (see ``wire.unpack``), when a field is missing,
        unknown or of the wrong kind, or when values are NaN or infinite and ``check_finite`` is set.
        """
        arrays, record = unpack(data, kind=FORMAT, version=VERSION)
        expected = {"site": str, "round_num": int, "started_from": str, "num_target_tokens": int}
        if set(record) != set(expected):
            raise ValueError(
                f"{FORMAT}: metadata must hold exactly {sorted(expected)}; "
                f"{len(set(expected) - set(record))} of them are missing, and "
                f"{len(set(record) - set(expected))} others are there"
            )
        for key, kind in expected.items():
            if type(record[key]) is not kind:
                raise ValueError(
                    f"{FORMAT}: metadata {key!r} must be {kind.__name__}, got {type(record[key]).__name__}"
                )
        update = SiteUpdate(adapter=Adapter(arrays), **record)
        if check_finite:
            refuse_non_finite(update.adapter, f"update of {update.site!r}")
        return update


def update_bytes(
    shapes: Mapping[str, Sequence[int]], *, site: str, round_num: int, num_target_tokens: int
) -> int:
    """``len(to_bytes())`` of an update whose adapter has arrays of these ``shapes``."""
    return packed_bytes(shapes, _record(site, round_num, "0" * 64, num_target_tokens))


def _record(site: str, round_num: int, started_from: str, num_target_tokens: int) -> dict[str, str | int]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "site": site,
        "round_num": round_num,
        "started_from": started_from,
        "num_target_tokens": num_target_tokens,
    }


def check_site_name(name: object) -> None:
    """Raise ValueError unless ``name`` is a safe site name: it names files and columns."""
    if not isinstance(name, str) or not _SITE_NAME.fullmatch(name):
        raise ValueError(f"site name {str(name)[:80]!r} is not allowed; use {SITE_NAME_RULE}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT

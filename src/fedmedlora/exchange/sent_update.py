"""A ``SiteUpdate`` on its way from a site to the coordinator, by the codec of the upload.

By an exact codec it is ``SiteUpdate.to_bytes``, the whole adapter. By any other it is the change since the
adapter that the round began with (``change.py``), and the coordinator sees what it received of it: to every
rule that is the site's adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import change_bytes, plus, receive, send
from fedmedlora.exchange.codec import Codec
from fedmedlora.exchange.update import SiteUpdate, update_bytes

FORMAT = "fedmedlora-update-change"


@dataclass(frozen=True, slots=True)
class SentUpdate:
    """``message``: what travels. ``update``: what the coordinator makes of it. ``residual``: what is left."""

    message: bytes
    update: SiteUpdate
    residual: Adapter | None


def send_update(update: SiteUpdate, base: Adapter, codec: Codec, residual: Adapter | None) -> SentUpdate:
    """``update``, which started from ``base``, and with it what was left of the rounds before (``residual``).

    Raises ``ValueError`` where the training has diverged.
    """
    if codec.is_exact:
        return SentUpdate(update.to_bytes(), update, None)
    record = _record(update.site, update.round_num, update.num_target_tokens)
    try:
        change = send(codec, base, plus(update.adapter, residual), kind=FORMAT, record=record)
    except ValueError as error:
        raise ValueError(f"update of {update.site!r}: {error}") from error
    assert update.started_from == change.base, "a change is of the adapter that the round began with"
    return SentUpdate(change.message, replace(update, adapter=change.received), change.residual)


def receive_update(data: bytes, base: Adapter, codec: Codec) -> SiteUpdate:
    """The update that a site sent in the round that ``base`` began; its values are finite.

    Raises ``ValueError`` for anything that ``send_update`` does not write.
    """
    if codec.is_exact:
        return SiteUpdate.from_bytes(data, check_finite=True)
    adapter, record = receive(data, codec, base, kind=FORMAT)
    if set(record) != {"base", "site", "round_num", "num_target_tokens"}:
        raise ValueError(f"{FORMAT}: its record does not hold what it should, and nothing else")
    return SiteUpdate(
        site=record["site"],
        round_num=record["round_num"],
        adapter=adapter,
        started_from=record["base"],
        num_target_tokens=record["num_target_tokens"],
    )


def sent_update_bytes(
    codec: Codec, shapes: Mapping[str, Sequence[int]], *, site: str, round_num: int, num_target_tokens: int
) -> int:
    """``len(send_update(...).message)`` of an adapter with arrays of these ``shapes``."""
    if codec.is_exact:
        return update_bytes(shapes, site=site, round_num=round_num, num_target_tokens=num_target_tokens)
    return change_bytes(codec, shapes, kind=FORMAT, record=_record(site, round_num, num_target_tokens))


def _record(site: str, round_num: int, num_target_tokens: int) -> dict[str, str | int]:
    return {"site": site, "round_num": round_num, "num_target_tokens": num_target_tokens}

"""Bytes that travel in a study, exactly: the sizes of its messages, from names, shapes and who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedmedlora.exchange.adapter import adapter_bytes
from fedmedlora.exchange.change import change_bytes
from fedmedlora.exchange.local import belongs
from fedmedlora.exchange.sent_update import sent_update_bytes
from fedmedlora.methods import Method
from fedmedlora.participation import holders, participants
from fedmedlora.plan.shapes import ShapeModel, num_in
from fedmedlora.study import Study

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one method sends. ``download_bytes``, ``upload_bytes``: one site in the first round, the largest.

    ``total_bytes``: all sites and rounds, both ways. ``trained_parameters``: of one site.
    """

    method: str
    label: str
    trained_parameters: int
    download_bytes: int
    upload_bytes: int
    total_bytes: int


def traffic(
    study: Study, method: Method, shapes: ShapeModel, num_target_tokens: Mapping[str, int]
) -> Traffic | None:
    """Of ``method``, or None where nothing travels. ``num_target_tokens``: by site, as its update says it."""
    if method.rule is None or not method.is_federated or method.encoder is not None:
        return None
    local = method.rule.local
    sent = _of(shapes, local.sends)
    away = {site.name: site.absent_rounds for site in study.sites}
    up, down = method.exchange.up(), method.exchange.down()
    whole = adapter_bytes(sent)
    change = whole if down.is_exact else change_bytes(down, sent)

    def takes_part(round_num: int) -> tuple[str, ...]:
        share = study.training.participation
        return participants(method.names, round_num, share=share, away=away, seed=study.seed)

    rounds = []  # of each the bytes down and up, by site
    for round_num in range(1, study.training.rounds + 1):
        names = takes_part(round_num)
        can = holders(names, round_num, takes_part, begin_alike=local.trains != "model")
        downs = [change if name in can else whole for name in names]
        ups = [
            sent_update_bytes(
                up, sent, site=name, round_num=round_num, num_target_tokens=num_target_tokens[name]
            )
            for name in names
        ]
        rounds.append((downs, ups))
    return Traffic(
        method=method.name,
        label=method.label,
        trained_parameters=num_in(_of(shapes, local.trains)),
        download_bytes=max(rounds[0][0]),
        upload_bytes=max(rounds[0][1]),
        total_bytes=sum(sum(downs) + sum(ups) for downs, ups in rounds),
    )


def _of(shapes: ShapeModel, part: str) -> Shapes:
    if part == "model":
        return shapes.whole
    return {name: shape for name, shape in shapes.adapter.items() if belongs(name, part)}  # type: ignore[arg-type]

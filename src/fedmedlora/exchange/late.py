"""A site's update that came after its round, made one of the round that it is in time for.

What the site learned is the change since the adapter that it started from. That change is added to the
current adapter, and counts for less the later it is: staleness as in Xie, Koyejo, Gupta, "Asynchronous
Federated Optimization", https://arxiv.org/abs/1903.03934, section 5.2, with weights that fall geometrically.
"""

from __future__ import annotations

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate


def carried(
    update: SiteUpdate, base: Adapter, current: Adapter, round_num: int, discount: float
) -> SiteUpdate:
    """``update``, which started from ``base``, as one of ``round_num``, which starts from ``current``.

    Its size is multiplied by ``discount`` for each round that it is late, rounded down, and is at least 1
    where the site trained on anything. Raises ``ValueError`` for other names or shapes than ``base`` has,
    and where ``update`` started from something else or is not late.
    """
    if update.started_from != base.hash() or update.adapter.shapes() != base.shapes():
        raise ValueError(f"update of {update.site!r}: it did not start from the adapter that it was sent")
    num_late = round_num - update.round_num
    if num_late < 1:
        raise ValueError(f"update of {update.site!r}: of round {update.round_num}, not late in {round_num}")
    size = update.num_target_tokens
    return SiteUpdate(
        site=update.site,
        round_num=round_num,
        adapter=Adapter(
            {
                name: current.arrays[name] + (array - base.arrays[name])
                for name, array in update.adapter.arrays.items()
            }
        ),
        started_from=current.hash(),
        num_target_tokens=max(1, int(size * discount**num_late)) if size else 0,
    )

"""Updates of sites on this machine as the coordinator would get them over a network.

Sites here hand over what they trained. Where the study's codecs lose something on the way, the coordinator of
a real federation would see something else, and fewer bytes would travel. The same functions that a site at
another machine and the coordinator use (``exchange/sent_update.py``) make the one of the other here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fedmedlora.exchange.adapter import Adapter, adapter_bytes
from fedmedlora.exchange.change import Change
from fedmedlora.exchange.codec import Codec
from fedmedlora.exchange.sent_update import SentUpdate, send_update
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.own_parts import OwnParts
from fedmedlora.rounds import Absent, SiteReport
from fedmedlora.sites import Participants


def send_with_residual(
    update: SiteUpdate, base: Adapter, codec: Codec, residuals: OwnParts, whose: str, last_round: int
) -> SentUpdate:
    """``send_update`` with what the site kept of ``last_round``, the last round of this run that it took part
    in (0: none yet); what is left is kept. ``whose``: see ``OwnParts``.

    Asked for a round again, a site sends the same: what it kept of that round itself plays no part, and what
    it kept of ``last_round`` stays, however many rounds in between came to nothing. A
    residual that is lost costs accuracy alone, so the round goes on without it.
    """
    if codec.is_exact:
        return send_update(update, base, codec, None)
    try:
        residual = residuals.load(whose, update.site, last_round)
        if residual is not None and residual.shapes() != update.adapter.shapes():
            raise ValueError("of other arrays")
    except ValueError as error:
        warnings.warn(
            f"site {update.site!r}, round {update.round_num}: what it had not sent by round {last_round} is "
            f"{'missing' if isinstance(error.__cause__, FileNotFoundError) else 'damaged'} and stays unsent; "
            "a run without this loss ends with other bits",
            stacklevel=2,
        )
        residual = None
    sent = send_update(update, base, codec, residual)
    assert sent.residual is not None
    residuals.save(whose, update.site, update.round_num, sent.residual, beside=last_round)
    return sent


@dataclass(frozen=True)
class AsSent:
    """``rounds.Carrier`` over ``participants``, whose sites are here.

    ``residuals``: where each site's residual is kept. Training is remembered as it was and not as it was
    sent, so studies that differ in their codecs share it.
    """

    participants: Participants
    residuals: OwnParts

    def train(
        self, round_num: int, current: Adapter, change: Change | None = None
    ) -> Iterator[SiteReport | Absent]:
        """See ``rounds.Carrier``."""
        errand = self.participants.errand
        codec = errand.exchange.up()
        whole_bytes = adapter_bytes(current.shapes())
        changes = self.participants.changes(round_num, change)
        last_rounds = self.participants.last_rounds(round_num)
        for report in self.participants.train(round_num, current, change):
            if isinstance(report, Absent):
                yield report
                continue
            site = report.update.site
            sent = send_with_residual(
                report.update, current, codec, self.residuals, errand.whose, last_rounds[site]
            )
            yield replace(
                report,
                update=sent.update,
                upload_bytes=len(sent.message),
                download_bytes=len(changes[site].message) if site in changes else whole_bytes,
            )

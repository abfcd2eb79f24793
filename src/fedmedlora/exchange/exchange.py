"""Which codec each direction uses: ``[exchange]`` of a study, and what a question tells a site."""

from __future__ import annotations

from dataclasses import dataclass

from fedmedlora.exchange.codec import EXACT, Codec, known_codecs, load_codec
from fedmedlora.settings import Range, nearest, setting


@dataclass(frozen=True, slots=True)
class Exchange:
    """``[exchange]``: how adapters are written for the way between sites and coordinator."""

    upload: str = setting(
        "codec from site to coordinator: float32 (whole adapters, nothing lost), bfloat16, int8, int4 or "
        "top_k (changes; what is lost is sent in later rounds)",
        EXACT,
    )
    download: str = setting("codec from coordinator to site: the same choice", EXACT)
    top_k_share: float = setting(
        "share of the values of each array that top_k sends in a round",
        0.05,
        within=Range(0, 1, open_low=True),
    )

    def __post_init__(self) -> None:
        known = known_codecs()
        for key, name in (("upload", self.upload), ("download", self.download)):
            if name not in known:
                raise ValueError(
                    f'{key}: unknown codec "{name[:80]}"{nearest(name, known)}; '
                    f"known codecs: {', '.join(known)}"
                )

    def up(self) -> Codec:
        """The codec of the upload."""
        return load_codec(self.upload, {"share": self.top_k_share})

    def down(self) -> Codec:
        """The codec of the download."""
        return load_codec(self.download, {"share": self.top_k_share})

    @property
    def is_exact(self) -> bool:
        """Whether nothing is lost in either direction."""
        return self.up().is_exact and self.down().is_exact

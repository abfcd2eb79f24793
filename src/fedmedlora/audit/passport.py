"""An adapter's passport: what it is, what it was made of and by whom, signed by the coordinator that made it.

One file, ``passport.json``, in the one form of ``canonical.py``. The signature is under the bytes
``fedmedlora-passport-1``, a line end, and the passport without its signature in that form, so it covers every
field, the key among them.

Sites are named by pseudonyms. A site's is the HMAC-SHA256 of its name under the id of the run: random bits
(122 of them) that are in no passport, and that the coordinator told every site with its questions. So the
site finds itself, and whoever has the passport alone cannot try names out. Other sites of the run can: they
know the id.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedmedlora.audit.canonical import canonical, read_canonical
from fedmedlora.audit.entries import Head
from fedmedlora.audit.signing import PublicKey, Signer
from fedmedlora.audit.sorts import (
    HASH,
    HASH_OR_NONE,
    KEY,
    PLAIN,
    TIME,
    Choice,
    Flag,
    ListOf,
    Maybe,
    Number,
    Only,
    Record,
    Setting,
    TableOf,
    Text,
    Whole,
    from_record,
    of,
    refuse_wrong,
    to_record,
)

FORMAT, VERSION = "fedmedlora-passport", 1
PASSPORT = "passport.json"
NO_PRIVACY = "no differential privacy was used"
UNSIGNED = "none"
MOST_BYTES = 16 << 20
PSEUDONYM = Text("pseudonym (32 hex digits)", r"[0-9a-f]{32}")
_SIGNED = f"{FORMAT}-{VERSION}\n".encode()


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """The adapter: ``hash`` of names, shapes and values, and sha256 of its files."""

    hash: str = of(HASH)
    num_bytes: int = of(Whole(1))
    files: Mapping[str, str] = of(TableOf(KEY, HASH, 10))

    def __post_init__(self) -> None:
        refuse_wrong(self, "adapter")


@dataclass(frozen=True, slots=True)
class MadeOf:
    """The frozen model that it stands on, and the words it was trained with. ``prompts``: their sha256."""

    base_model: str = of(PLAIN)
    base_model_hash: str = of(HASH)
    tokenizer: str = of(HASH)
    prompts: str = of(HASH)

    def __post_init__(self) -> None:
        refuse_wrong(self, "made_of")


@dataclass(frozen=True, slots=True)
class Training:
    """How it was trained. ``settings``: of the rule, the adapter and the exchange, by dotted name."""

    method: str = of(PLAIN)
    num_rounds: int = of(Whole())
    settings: Mapping[str, Any] = of(TableOf(KEY, Setting()))

    def __post_init__(self) -> None:
        refuse_wrong(self, "training")


@dataclass(frozen=True, slots=True)
class SiteShare:
    """A site, by its pseudonym, and in how many rounds its update was part of the adapter."""

    pseudonym: str = of(PSEUDONYM)
    num_rounds: int = of(Whole(1))

    def __post_init__(self) -> None:
        refuse_wrong(self, "site")


@dataclass(frozen=True, slots=True)
class Score:
    """Counts and F1 on one cohort, as in ``results.json``. ``cohort``: a site by its pseudonym."""

    cohort: str = of(PLAIN)
    is_site: bool = of(Flag())
    decoding: str = of(Choice(("constrained", "free")))
    kind: str = of(KEY)
    criterion: str = of(Choice(("strict", "lenient")))
    tp: int = of(Whole())
    fp: int = of(Whole())
    fn: int = of(Whole())
    f1: float | None = of(Maybe(Number()))

    def __post_init__(self) -> None:
        refuse_wrong(self, "score")


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """The score of answers to the prompts of instruction data, as in ``results.json``."""

    cohort: str = of(PLAIN)
    is_site: bool = of(Flag())
    metric: str = of(KEY)
    num_records: int = of(Whole())
    score: float | None = of(Maybe(Number()))

    def __post_init__(self) -> None:
        refuse_wrong(self, "answer score")


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where the coordinator's audit log stood when the passport was made. ``log_id``: in its first entry."""

    log_id: str = of(Text("id of a log", r"[0-9a-f]{32}"))
    head: Head = of(Record(Head))

    def __post_init__(self) -> None:
        refuse_wrong(self, "audit")


@dataclass(frozen=True, slots=True)
class Passport:
    """Everything but the signature. ``privacy_ledger``: one value, while nothing is clipped or noised."""

    format: str = of(Choice((FORMAT,)))
    version: int = of(Only(VERSION))
    created: str = of(TIME)
    adapter: AdapterFiles = of(Record(AdapterFiles))
    made_of: MadeOf = of(Record(MadeOf))
    training: Training = of(Record(Training))
    sites: tuple[SiteShare, ...] = of(ListOf(Record(SiteShare), 10_000))
    privacy_ledger: str = of(Choice((NO_PRIVACY,)))
    scores: tuple[Score, ...] = of(ListOf(Record(Score), 100_000))
    answer_scores: tuple[AnswerScore, ...] = of(ListOf(Record(AnswerScore), 100_000))
    audit: LogEnd = of(Record(LogEnd))
    versions: Mapping[str, str] = of(TableOf(KEY, PLAIN, 100))
    study_hash: str = of(HASH_OR_NONE)
    key: PublicKey | None = of(Maybe(Record(PublicKey)))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class SignedPassport:
    """A passport as it was read. ``signature``: base64, or ``UNSIGNED``."""

    passport: Passport
    signature: str

    def signature_problem(self, known: PublicKey | None) -> str:
        """What is wrong with the signature; "": nothing. ``known``: the key that it must be of, if any."""
        key = self.passport.key
        if key is None or self.signature == UNSIGNED:
            if key is not None or self.signature != UNSIGNED:
                return "it names a key and has no signature, or has a signature and names no key"
            return "" if known is None else "signature: none; it cannot be told whose it is"
        if known is not None and key != known:
            return f"signed by another key (fingerprint {key.fingerprint[:16]}) than the one given"
        try:
            is_right = key.verifies(self.signature, _signed_bytes(self.passport))
        except ValueError as error:
            return str(error)
        return "" if is_right else "the signature is not of this passport: something in it was changed"


def write_passport(passport: Passport, signer: Signer | None) -> bytes:
    """The file of ``passport``, whose ``key`` is filled in; ``signer`` None: it is ``UNSIGNED``."""
    own = replace(passport, key=None if signer is None else signer.public)
    signature = UNSIGNED if signer is None else signer.sign(_signed_bytes(own))
    return canonical({**to_record(own), "signature": signature}) + b"\n"


def read_passport(data: bytes) -> SignedPassport:
    """What ``write_passport`` wrote. Raises ``ValueError`` for anything else: other fields, another version,
    keys named twice, values of another sort. The signature is not looked at: see ``signature_problem``."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"passport: {len(data)} bytes; at most {MOST_BYTES} are read")
    if not data.endswith(b"\n"):
        raise ValueError("passport: its last line end is missing; is it the whole file?")
    try:
        record = read_canonical(data[:-1])
    except ValueError as error:
        raise ValueError(f"passport: {error}") from None
    if not isinstance(record, dict):
        raise ValueError("passport: not a table")
    if record.get("format") != FORMAT or record.get("version") != VERSION:
        raise ValueError(f"passport: format and version must be {FORMAT!r} and {VERSION}")
    signature = record.pop("signature", None)
    if not isinstance(signature, str) or len(signature) > 400:
        raise ValueError("passport: signature is missing or no text")
    return SignedPassport(from_record(Passport, record, "passport"), signature)


def pseudonym(site: str, run: str) -> str:
    """How ``site`` is called in the passports of the run with the id ``run``."""
    return hmac.new(run.encode(), f"fedmedlora-site-1\n{site}".encode(), hashlib.sha256).hexdigest()[:32]


def _signed_bytes(passport: Passport) -> bytes:
    return _SIGNED + canonical(to_record(passport))

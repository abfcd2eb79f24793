"""A site's own side: its file and the study's terms -> answers. Nothing here knows of Flower's network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from filelock import FileLock

from fedmedlora.as_sent import send_with_residual
from fedmedlora.basis import basis_asked, basis_here
from fedmedlora.corpora.jsonl import annotates_json
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import base_of, receive
from fedmedlora.exchange.local import take
from fedmedlora.flower.allows import Refused
from fedmedlora.flower.held import HeldAdapters
from fedmedlora.flower.ledger import Ledger
from fedmedlora.flower.messages import BASIS, Letter
from fedmedlora.flower.site_file import NO_TURNS, SiteFile
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import prepare_site, with_lora, workers_of
from fedmedlora.model.demo import cache_folder
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import read_adapter
from fedmedlora.model.memory import keep_freed_memory
from fedmedlora.own_parts import OwnParts
from fedmedlora.prepare import hash_notes, read_notes, refuse_overlap
from fedmedlora.rounds import Absent
from fedmedlora.run_folder import UpdateCache
from fedmedlora.sites import Errand, Participants
from fedmedlora.study_rounds import Rounds
from fedmedlora.terms import Terms
from fedmedlora.training.optimizer import refuse_optimizer

UPDATE, UPDATE_HASH = "update", "update_sha256"
CURRENT, CHANGE = "adapter", "change"
DATA_HASH = "data_hash"  # of the notes that an answer was made of
LACKS_BASE = "lacks_base"  # whether a site has not got what the change that came begins with
_SAME_FILES = "they must be the same files"
_ADVICE = {
    "base_model": _SAME_FILES,
    "tokenizer": _SAME_FILES,
    "chat_template": _SAME_FILES,
    "prompts": "install the same version of fedmedlora on both sides, with nothing in it edited",
}
MOST_KEPT = 8  # methods of runs under the same terms of which a site keeps things at a time


@contextmanager
def turn(file: SiteFile) -> Iterator[None]:
    """Wait until no other site on this machine is at work: each needs the memory of a whole training step."""
    if file.turn == NO_TURNS:
        yield
        return
    path = file.path(file.turn) if file.turn else cache_folder() / "turn.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):  # the system frees it when a process dies
        yield


@dataclass(frozen=True)
class SiteWork:
    """One site under the terms of one study, ready to work. ``num_steps``: optimizer steps of a round."""

    file: SiteFile
    terms: Terms
    site: InProcess
    held: HeldAdapters
    residuals: OwnParts
    ledger: Ledger
    num_steps: int

    def describe(self) -> Letter:
        """What the site says about itself: see ``sites.SiteInfo``."""
        info = self.site.infos[0]
        return Letter(
            {
                "name": info.name,
                "record": dict(info.record),
                "annotates": [annotates_json(one) for one in info.annotates],
                "data_hash": info.data_hash,
                "train_cost": info.train_cost,
                "read_cost": dict(info.read_cost) if self.file.allows.scores else {},
                "loss_cost": info.loss_cost,
            }
        )

    def train(self, round_num: int, parts: Mapping[str, bytes], errand: Errand, *, last_round: int) -> Letter:
        """The site's update of this round. Asked again, it sends the same one without training again.

        ``parts``: the adapter that the round begins with, or the change that leads there. A site that has not
        got what the change begins with says so, and is sent the whole adapter. ``last_round``: the last one
        of this run that the site took part in (0: none yet), of which it goes on with what it kept.

        Raises ``Refused`` where training it would be more than the site allows in all.
        """
        current = self._current(parts, errand)
        if current is None:
            return Letter({"site": self.file.name, LACKS_BASE: True})
        key = hashlib.sha256(
            f"{self.terms.to_json()}\n{self.site.infos[0].data_hash}\n{current.hash()}\n"
            f"{errand.whose}\n{last_round}".encode()
        ).hexdigest()
        cache = UpdateCache(self.file.path(self.file.state) / "last-update" / key[:24])
        if not cache.folder.exists():
            UpdateCache(cache.folder.parent).clear()  # the last one only
        here = (self.file.name,)
        carrier = Participants(
            self.site,
            here,
            cache,
            errand,
            lambda number: here if number in (last_round, round_num) else (),
            rounds=Rounds(max_change_norm=0.0),  # how far it may move is for the coordinator to say
        )
        if carrier.missing(round_num, current):
            self.ledger.charge(self.num_steps, self.file.allows)
        (report,) = carrier.train(round_num, current)
        assert not isinstance(report, Absent), "one site alone is a quorum of itself"
        codec = errand.exchange.up()
        sent = send_with_residual(report.update, current, codec, self.residuals, errand.whose, last_round)
        fields = {
            LACKS_BASE: False,
            UPDATE_HASH: hashlib.sha256(sent.message).hexdigest(),
            BASIS: asdict(self.site.basis),
        }
        return Letter({**self._whose(), **fields, **report.numbers()}, {UPDATE: sent.message})

    def _current(self, parts: Mapping[str, bytes], errand: Errand) -> Adapter | None:
        """The adapter that the round begins with; None where the change that came begins with another one
        than is here. Where changes come, it is kept for the next one to begin with."""
        codec = errand.exchange.down()
        if codec.is_exact:
            return Adapter.from_bytes(Letter({}, parts).part(CURRENT), check_finite=True)
        base = None
        if CHANGE in parts:
            base = self._base(base_of(parts[CHANGE]), errand)
            if base is None:
                return None
            current, _ = receive(parts[CHANGE], codec, base)
        else:
            current = Adapter.from_bytes(Letter({}, parts).part(CURRENT), check_finite=True)
        self.held.save(errand.whose, current, base)
        return current

    def _base(self, hash_: str, errand: Errand) -> Adapter | None:
        """The adapter of that hash: what the site was sent in its last round, or the untrained one."""
        held = self.held.load(errand.whose, hash_)
        if held is None and errand.local.sends != "model":
            start = take(self.site.start, errand.local.sends)
            held = start if start.hash() == hash_ else None
        return held

    def read(self, adapter: Adapter, decoding: str, errand: Errand) -> Letter:
        """Scores of ``adapter`` on the site's test notes: counts and F1. What was predicted stays here."""
        ((_, found),) = self.site.read((self.file.name,), adapter, decoding, errand, "the adapter")
        return Letter({**self._whose(), "evaluation": found.record})

    def losses(self, adapters: Mapping[str, Adapter], errand: Errand) -> Letter:
        """Losses of other sites' adapters on this site's held-out notes."""
        found = self.site.losses((self.file.name,), adapters, errand)[self.file.name]
        told = {label: loss if math.isfinite(loss) else None for label, loss in found.items()}
        return Letter({**self._whose(), "losses": told})

    def _whose(self) -> dict[str, str]:
        """Who answers, and by the hash of which notes: they may be others than those that it described."""
        return {"site": self.file.name, DATA_HASH: self.site.infos[0].data_hash}


def open_site(file: SiteFile, terms: Terms) -> SiteWork:
    """The site of ``file`` under ``terms``.

    Raises ``Refused`` for what the site does not allow or cannot match, and ``ValueError`` for whatever is
    wrong here, in words that stay here.
    """
    file.allows.refuse_terms(terms)
    keep_freed_memory()
    base = load_base_model(
        file.model_name(),
        precision=file.model.precision,
        quantization=file.model.quantization,
        revision=file.model.revision,
    )
    _refuse_other_model(base, terms)
    refuse_optimizer(file.model.optimizer, base.device)
    schema = terms.schema()
    train = read_notes(file.path(file.train), schema, terms.tasks.names)
    test = (
        read_notes(file.path(file.test), schema, terms.tasks.names)
        if file.test and file.allows.scores
        else None
    )
    refuse_overlap([], {file.name: train}, {} if test is None else {file.name: test})
    site = prepare_site(terms, base.encoder, schema, file.name, train, test, source=file.train)
    num_steps = file.allows.refuse_work(len(site.examples), terms)
    model = with_lora(base, terms)
    hashes = hash_notes(file.path(file.train)) + (hash_notes(file.path(file.test)) if file.test else "")
    data_hash = hashlib.sha256(hashes.encode()).hexdigest()
    state, study_key = file.path(file.state), _study_key(terms, data_hash)
    return SiteWork(
        file,
        terms,
        InProcess(
            base,
            model,
            schema,
            terms,
            (site,),
            read_adapter(model),
            OwnParts(state / "own" / study_key, MOST_KEPT),
            data_hashes={file.name: data_hash},
            here=file.model,
            workers=workers_of(base, terms, file.model),
        ),
        HeldAdapters(state / "held" / study_key, MOST_KEPT),
        OwnParts(state / "residuals" / study_key, MOST_KEPT),
        Ledger(state),
        num_steps,
    )


def _study_key(terms: Terms, data_hash: str) -> str:
    """What the site keeps of its own belongs to these terms and these notes, and to no other study."""
    return hashlib.sha256(f"{terms.to_json()}\n{data_hash}".encode()).hexdigest()[:24]


def _refuse_other_model(base: BaseModel, terms: Terms) -> None:
    """Raise ``Refused`` unless the site's base model, tokenizer, chat template and prompts are the
    coordinator's."""
    here, asked = basis_here(base, terms.tasks), basis_asked(terms)
    for what, advice in _ADVICE.items():
        own, wanted = getattr(here, what), getattr(asked, what)
        if own != wanted:
            raise Refused(
                f"the {what.replace('_', ' ')} at this site {'have' if what == 'prompts' else 'has'} hash "
                f"{own[:12]}, the coordinator's {wanted[:12]}: {advice}"
            )

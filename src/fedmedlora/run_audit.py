"""What a run tells its audit log, and the passports of the adapters that it leaves."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedmedlora.audit import passport as form
from fedmedlora.audit.canonical import canonical
from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import (
    Admission,
    Fault,
    Finished,
    Opened,
    Round,
    Settings,
    Started,
    Versions,
    error_name,
)
from fedmedlora.audit.in_force import flat, versions
from fedmedlora.audit.log_file import LOG, RunLog, lines_of
from fedmedlora.audit.saved_adapter import WEIGHTS, file_sha256
from fedmedlora.audit.signing import Signer
from fedmedlora.audit.sorts import plain_words, told
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.manifest import plain_name
from fedmedlora.methods import Method
from fedmedlora.model.saved import MANIFEST, read_manifest, read_saved_adapter
from fedmedlora.rounds import Absent
from fedmedlora.run import Run
from fedmedlora.run_folder import ASIDE, DamagedRound, MethodFolder, write_file
from fedmedlora.study_public import public_settings

_FILES = (WEIGHTS, "adapter_config.json", MANIFEST)
_PEOPLE = ("site", "new-site")  # kinds of cohort that are hospitals

_log = logging.getLogger("fedmedlora")


@dataclass(frozen=True, slots=True)
class Recorded:
    """``rounds.RoundStore``: ``store``, whose new rounds are told to ``log`` before they are kept.

    So a round may stand in the log twice, where a run was stopped between the two, and never not at all. Who
    is not in a round is told when that is known (``absent``), and once more where a run goes on and finds the
    same. A round that is damaged on the disk is put aside with all later ones, which are told again, too.
    ``followers``: where the rounds are of what began with the last adapter; they are put aside first.
    """

    store: MethodFolder
    log: RunLog
    method: str
    followers: Sequence[MethodFolder] = ()
    _told: set[Admission] = field(default_factory=set)

    def absent(self, round_num: int, one: Absent) -> None:
        """Tell the log that ``one`` is not in the round, and why."""
        entry = Admission(told(self.method), round_num, one.site, False, plain_words(one.reason))
        self.log.append(entry)
        self._told.add(entry)

    def load(self, round_num: int) -> tuple[Adapter, dict[str, Any]] | None:
        """See ``rounds.RoundStore``."""
        try:
            found = self.store.load(round_num)
            if found is None and max(self.store.finished(), default=0) > round_num:
                raise DamagedRound(f"{self.store.folder}: the record of round {round_num} is gone")
        except DamagedRound as damaged:
            _log.warning(
                "%s, round %d: damaged on the disk; it and all later ones are put aside (*%s) and computed "
                "again", self.method, round_num, ASIDE,
            )  # fmt: skip
            self.log.append(Fault("unreadable", "", "", "", error_name(damaged)))
            for follower in self.followers:  # a kill in between leaves the damage to be found again
                follower.put_aside(1)
            self.store.put_aside(round_num)
            return None
        return found

    def save(self, round_num: int, adapter: Adapter, record: dict[str, Any]) -> None:
        """See ``rounds.RoundStore``."""
        weights = {site: float(weight) for site, weight in record["weights"].items()}
        name = told(self.method)
        admitted = [Admission(name, round_num, str(site["site"]), True, "") for site in record["sites"]]
        absent = [
            Admission(name, round_num, str(one["site"]), False, plain_words(one["reason"]))
            for one in record.get("absent") or ()
        ]
        new = [entry for entry in absent if entry not in self._told]
        self.log.append(*admitted, *new, Round(name, round_num, weights, adapter.hash()))
        self.store.save(round_num, adapter, record)


def begin(run: Run, run_id: str, *, is_resumed: bool) -> None:
    """Open the run's log in its folder, and say what is about to run."""
    run.log.open(run.folder / LOG)
    settings = public_settings(run.study)
    run.log.append(
        Started(
            run_id,
            is_resumed,
            run.study.study_hash(),
            run.base.hash,
            run.base.encoder.tokenizer_hash(),
            tuple(info.name for info in run.sites.infos),
        ),
        Versions(versions()),
        Settings("study", hashlib.sha256(canonical(settings)).hexdigest(), flat(settings)),
    )


@contextmanager
def told_of_a_stop(log: RunLog) -> Iterator[None]:
    """Whatever ends the block before its time is told to ``log``, by the kind of error alone."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError, ValueError):  # the disk is full, perhaps: the first error is the one to tell
            log.append(Fault("failed", "", "", "", error_name(error)))
        raise


def finish(
    run: Run, run_id: str, methods: Sequence[Method], results: dict[str, Any], signer: Signer | None
) -> None:
    """Tell the log that the run is finished, and put a passport beside every adapter that it left."""
    left = [
        (method, record, run.folder / record["adapter"])
        for method, record in zip(methods, results["methods"], strict=True)
        if record["adapter"] is not None
    ]
    adapters = {told(method.name): file_sha256(folder / WEIGHTS) for method, _, folder in left}
    head = run.log.append(Finished(run_id, adapters))
    assert head is not None, "the run's folder is there"
    end = form.LogEnd(_log_id(run.folder / LOG), head)
    who = run_id or secrets.token_hex(16)  # a run begun by a version that gave none
    for method, record, folder in left:
        made = _passport(run, method, record, folder, who, results["cohorts"], end)
        write_file(folder / form.PASSPORT, form.write_passport(made, signer))


def _passport(
    run: Run,
    method: Method,
    record: dict[str, Any],
    folder: Path,
    who: str,
    cohorts: Sequence[Mapping[str, Any]],
    end: form.LogEnd,
) -> form.Passport:
    manifest = read_manifest(folder)
    prompts = {key: manifest[key] for key in ("prompts", "trained_prompts", "frame", "output_form")}
    hospitals = {one["name"] for one in cohorts if one["kind"] in _PEOPLE}
    scores = [(e, e["cohort"] in hospitals) for e in record["evaluations"]]

    def called(cohort: str) -> str:
        return form.pseudonym(cohort, who) if cohort in hospitals else told(cohort)

    return form.Passport(
        form.FORMAT,
        form.VERSION,
        datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        form.AdapterFiles(
            read_saved_adapter(folder).hash(),
            (folder / WEIGHTS).stat().st_size,
            {name: file_sha256(folder / name) for name in _FILES},
        ),
        form.MadeOf(
            told(plain_name(run.base)),
            run.base.hash,
            run.base.encoder.tokenizer_hash(),
            hashlib.sha256(canonical(prompts)).hexdigest(),
        ),
        # What follows the colon of a method's name is the name of a site.
        form.Training(told(method.name.partition(":")[0]), len(record["rounds"]), _settings(run, method)),
        _shares(record["rounds"], who),
        form.NO_PRIVACY,
        tuple(
            form.Score(
                called(e["cohort"]),
                is_site,
                e["decoding"],
                kind,
                criterion,
                *(numbers[key] for key in ("tp", "fp", "fn", "f1")),
            )
            for e, is_site in scores
            for kind, criteria in e["scores"].items()
            for criterion, numbers in (criteria or {}).items()
        ),
        tuple(
            form.AnswerScore(
                called(e["cohort"]), is_site, *(e["answers"][k] for k in ("metric", "num_records", "score"))
            )
            for e, is_site in scores
            if e.get("answers") is not None
        ),
        end,
        versions(),
        run.study.study_hash(),
        None,
    )


def _settings(run: Run, method: Method) -> dict[str, Any]:
    rule: Any = method.rule
    return flat(
        {
            "rule": asdict(rule),
            "adapter": asdict(run.study.adapter),
            "exchange": asdict(method.exchange),
            "training": asdict(run.study.training),
        }
    )


def _shares(rounds: Sequence[Mapping[str, Any]], who: str) -> tuple[form.SiteShare, ...]:
    names = [site["site"] for one in rounds for site in one["sites"]]
    found = [form.SiteShare(form.pseudonym(name, who), names.count(name)) for name in set(names)]
    return tuple(sorted(found, key=lambda share: share.pseudonym))  # the order says nothing of the names


def _log_id(path: Path) -> str:
    begins = read_line(next(lines_of(path))).entry
    assert isinstance(begins, Opened), "the first entry of every log"
    return begins.log_id

"""How a run stands: what is written while it goes on, and its finished rounds -> one ``Status``.

Pure: no file, no clock. Names and reasons are shown by others, who escape them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedmedlora.live_record import ENDED, LiveRecord, LiveSite, plain, seconds_between

FORMAT, VERSION = "fedmedlora-status", 1
SILENT_S = 20.0  # without a sign of life for so long, nobody is at work
_NOT_LET_IN = "refused: "  # how the reason of an update begins that was not let in
_WITHOUT_ROUNDS = ("zero_shot", "few_shot", "endpoint")
_EACH_SITE = ("single_site", "encoder_single_site")
_IN_ROUND = ("training", "aggregating", "validating")


@dataclass(frozen=True, slots=True)
class Absence:
    """A site that is not in a round, and why."""

    site: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoundStatus:
    """A finished round. ``train_loss``: mean over its examples. ``loss``, F1: of the new adapter on the
    validation notes; None: not measured. ``seconds``: what it took, as far as it was recorded."""

    method: str
    round_num: int
    num_sites: int
    absent: tuple[Absence, ...]
    weights: Mapping[str, float]
    train_loss: float | None
    loss: float | None
    strict_f1: float | None
    lenient_f1: float | None
    upload_bytes: int
    download_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MethodStatus:
    """``num_planned``: None where it is not known."""

    name: str
    num_done: int
    num_planned: int | None


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """``is_connected``, ``seen_utc``: None and "" where nobody says. ``state``, ``reason``: see ``LiveSite``;
    "": not known. ``weight``: in the last finished round of the method at hand. ``num_rounds``,
    ``num_absences``, ``num_not_let_in``: of finished rounds."""

    name: str
    is_connected: bool | None
    seen_utc: str
    state: str
    reason: str
    upload_bytes: int
    download_bytes: int
    num_refusals: int
    num_rounds: int
    num_absences: int
    num_not_let_in: int
    weight: float | None


@dataclass(frozen=True, slots=True)
class ScoreStatus:
    """An adapter on a cohort's test notes: micro-F1 of entities; None: undefined or not measured."""

    method: str
    cohort: str
    decoding: str
    strict_f1: float | None
    lenient_f1: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """The run. ``stage``: of ``live_record.Stage``; "": nobody says. ``is_alive``: whether somebody is at
    work; None: not known. ``num_done``, ``num_planned``: rounds of the methods of which it is known how many
    they have. ``seconds_left``: of the rounds that are still to come, None where no finished one tells;
    reading test notes is not in it. ``rounds``: method by method, in order."""

    study: str
    stage: str
    reason: str
    doing: str
    method: str
    round_num: int
    num_rounds: int
    began_utc: str
    since_utc: str
    seen_utc: str
    is_alive: bool | None
    num_done: int
    num_planned: int | None
    seconds_left: float | None
    methods: tuple[MethodStatus, ...]
    sites: tuple[SiteStatus, ...]
    rounds: tuple[RoundStatus, ...]
    scores: tuple[ScoreStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run's folder holds. ``settings``: as ``public_settings`` gives them, or nothing yet. ``rounds``,
    ``evaluations``: folder of a method -> records as in ``results.json``. ``is_done``: it has results."""

    settings: Mapping[str, Any]
    rounds: Mapping[str, Sequence[Mapping[str, Any]]]
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]]
    is_done: bool = False


NOTHING_YET = Finished({}, {}, {})


def status_of(live: LiveRecord | None, finished: Finished, now_utc: str, error: str = "") -> Status:
    """How the run stands at ``now_utc``. ``error``: what the coordinator said where the run ended by one."""
    planned = planned_rounds(finished.settings)
    names = {name.replace(":", "-"): name for name in planned}
    rounds = tuple(
        _round(names.get(folder, folder), record)
        for folder in _in_order(finished.rounds, names)
        for record in sorted(finished.rounds[folder], key=lambda record: int(record["round_num"]))
    )
    methods = _methods(planned, rounds)
    of_plan = [method for method in methods if method.num_planned is not None]
    status = Status(
        study=live.study if live else plain(str(finished.settings.get("name", ""))),
        stage=live.stage if live else "",
        reason=live.reason if live else "",
        doing=live.doing if live else "",
        method=live.method if live else "",
        round_num=live.round_num if live else 0,
        num_rounds=live.num_rounds if live else _num_rounds(finished.settings),
        began_utc=live.began_utc if live else "",
        since_utc=live.since_utc if live else "",
        seen_utc=live.written_utc if live else "",
        is_alive=None if live is None else _is_alive(live, now_utc),
        num_done=sum(method.num_done for method in of_plan or methods),
        num_planned=sum(method.num_planned or 0 for method in of_plan) if of_plan else None,
        seconds_left=None,
        methods=methods,
        sites=_sites(live, finished.settings, rounds, finished.rounds),
        rounds=rounds,
        scores=tuple(
            _score(names.get(folder, folder), record)
            for folder in _in_order(finished.evaluations, names)
            for record in finished.evaluations[folder]
        ),
    )
    if error and status.stage not in ENDED:
        status = replace(status, stage="stopped", reason=plain(error), is_alive=False)
    elif finished.is_done and live is None:
        status = replace(status, stage="finished", is_alive=False)
    return replace(status, seconds_left=_seconds_left(status, now_utc))


def planned_rounds(settings: Mapping[str, Any]) -> dict[str, int]:
    """Method -> its rounds, for those of a study's settings that train."""
    num = _num_rounds(settings)
    sites = [str(site.get("name", "")) for site in _tables(settings.get("sites"))]
    found: dict[str, int] = {}
    for method in settings.get("methods") or () if num else ():
        if method in _EACH_SITE:
            found |= {f"{method}:{site}": num for site in sites}
        elif method not in _WITHOUT_ROUNDS:
            found[str(method)] = num
    return found


def _num_rounds(settings: Mapping[str, Any]) -> int:
    training = settings.get("training")
    found = training.get("rounds", 0) if isinstance(training, Mapping) else 0
    return found if isinstance(found, int) else 0


def _tables(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, (list, tuple)) else []


def _in_order(folders: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """As the study has its methods; others, which are adaptations, behind them."""
    order = list(names)
    return sorted(
        folders, key=lambda folder: (order.index(folder) if folder in order else len(order), folder)
    )


def _is_alive(live: LiveRecord, now_utc: str) -> bool:
    return live.stage not in ENDED and seconds_between(live.written_utc, now_utc) <= SILENT_S


def _round(method: str, record: Mapping[str, Any]) -> RoundStatus:
    sites = record["sites"]
    validation = record.get("validation") or {}
    known = [(s["train_loss"], s["num_examples"]) for s in sites if s["train_loss"] is not None]
    num_examples = sum(num for _, num in known)
    return RoundStatus(
        method=plain(method),
        round_num=int(record["round_num"]),
        num_sites=len(sites),
        absent=tuple(Absence(plain(a["site"]), plain(a["reason"])) for a in record.get("absent") or ()),
        weights={plain(site): float(weight) for site, weight in record["weights"].items()},
        train_loss=sum(loss * num for loss, num in known) / num_examples if num_examples else None,
        loss=validation.get("loss"),
        strict_f1=validation.get("ner_strict_f1"),
        lenient_f1=validation.get("ner_lenient_f1"),
        upload_bytes=sum(site["upload_bytes"] for site in sites),
        download_bytes=sum(site["download_bytes"] for site in sites),
        seconds=_seconds(record),
    )


def _seconds(record: Mapping[str, Any]) -> float:
    """Sites behind a network work side by side, those of one machine one after the other."""
    answered = [one["answer_seconds"] for one in record["sites"] if one.get("answer_seconds") is not None]
    trained = [one["seconds"] for one in record["sites"]]
    at_sites = max(answered) if answered else sum(trained)
    return float(at_sites + record["aggregate_seconds"] + (record.get("validate_seconds") or 0.0))


def _methods(planned: Mapping[str, int], rounds: Sequence[RoundStatus]) -> tuple[MethodStatus, ...]:
    names = dict.fromkeys([*planned, *(one.method for one in rounds)])
    done = [one.method for one in rounds]
    return tuple(MethodStatus(name, done.count(name), planned.get(name)) for name in names)


def _sites(
    live: LiveRecord | None,
    settings: Mapping[str, Any],
    rounds: Sequence[RoundStatus],
    records: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[SiteStatus, ...]:
    told = live.sites if live else ()
    if not told:
        told = tuple(LiveSite(plain(str(s.get("name", "")))) for s in _tables(settings.get("sites")))
    here = None if live is None else _of_round(rounds, live.method, live.round_num)
    method = live.method if live and live.method else rounds[-1].method if rounds else ""
    latest = next((one for one in reversed(rounds) if one.method == method), None)
    travelled = _travelled(records)
    found = []
    for site in told:
        state, reason = site.state if live else "", site.reason
        away = {one.site: one.reason for one in here.absent} if here else {}
        if site.state == "answered" and site.name in away:  # it came, and was not let in
            state, reason = "refused", away[site.name]
        up, down = (site.upload_bytes, site.download_bytes) if live else travelled.get(site.name, (0, 0))
        reasons = [one.reason for r in rounds for one in r.absent if one.site == site.name]
        found.append(
            SiteStatus(
                name=site.name,
                is_connected=site.is_connected if live else None,
                seen_utc=site.seen_utc,
                state=state,
                reason=reason,
                upload_bytes=up,
                download_bytes=down,
                num_refusals=site.num_refusals,
                num_rounds=sum(site.name in one.weights for one in rounds),
                num_absences=len(reasons),
                num_not_let_in=sum(one.startswith(_NOT_LET_IN) for one in reasons),
                weight=latest.weights.get(site.name) if latest else None,
            )
        )
    return tuple(found)


def _travelled(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[int, int]]:
    """Site -> bytes up and down of all finished rounds."""
    found: dict[str, tuple[int, int]] = {}
    for one in (site for of_method in records.values() for record in of_method for site in record["sites"]):
        up, down = found.get(plain(one["site"]), (0, 0))
        found[plain(one["site"])] = (up + one["upload_bytes"], down + one["download_bytes"])
    return found


def _of_round(rounds: Sequence[RoundStatus], method: str, round_num: int) -> RoundStatus | None:
    return next((one for one in rounds if (one.method, one.round_num) == (method, round_num)), None)


def _score(method: str, record: Mapping[str, Any]) -> ScoreStatus:
    entities = (record.get("scores") or {}).get("entities") or {}
    f1 = {criterion: (entities.get(criterion) or {}).get("f1") for criterion in ("strict", "lenient")}
    return ScoreStatus(
        plain(method), plain(str(record["cohort"])), str(record["decoding"]), f1["strict"], f1["lenient"]
    )


def _seconds_left(status: Status, now_utc: str) -> float | None:
    """The median of what finished rounds took, method by method, times the rounds that are left."""
    if status.num_planned is None or not status.rounds or not status.is_alive:
        return None
    all_seconds = [one.seconds for one in status.rounds]
    left = 0.0
    for method in status.methods:
        took = [one.seconds for one in status.rounds if one.method == method.name] or all_seconds
        num_left = max(0, (method.num_planned or 0) - method.num_done)
        left += num_left * statistics.median(took)
        is_here = method.name == status.method and status.stage in _IN_ROUND
        if num_left and is_here and _of_round(status.rounds, status.method, status.round_num) is None:
            elapsed = seconds_between(status.since_utc, now_utc)
            left -= min(elapsed, statistics.median(took)) if status.stage == "training" else 0.0
    return left

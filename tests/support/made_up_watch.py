"""A made-up run on its way: what its coordinator writes, and finished rounds. Nothing was measured."""

from fedmedlora.live_record import LiveRecord, LiveSite, write_live
from fedmedlora.run_folder import write_json

NOW = "2026-11-29T14:00:00Z"


def live_record(**changes):
    """Round 2 of 3 since a minute: lakeside has answered, northgate works, riverbend will not."""
    site = {"is_connected": True, "seen_utc": "2026-11-29T13:59:58Z"}
    told = {
        "study": "Three hospitals",
        "num_rounds": 3,
        "stage": "training",
        "began_utc": "2026-11-29T13:00:00Z",
        "since_utc": "2026-11-29T13:59:00Z",
        "written_utc": "2026-11-29T13:59:59Z",
        "sites": (
            LiveSite("lakeside", **site, state="answered", upload_bytes=3000, download_bytes=4000),
            LiveSite("northgate", **site, state="asked", upload_bytes=1000, download_bytes=4000),
            LiveSite("riverbend", **site, state="refused", reason="not at night", num_refusals=2),
        ),
        "method": "fed_medlora",
        "round_num": 2,
    }
    return LiveRecord(**(told | changes))


def round_record(round_num, **changes):
    """A finished round of lakeside (10 examples, loss 1) and northgate (30 examples, loss 2)."""

    def site(name, num_examples, train_loss, answer_seconds):
        return {
            "site": name, "num_examples": num_examples, "num_target_tokens": 100, "train_loss": train_loss,
            "validation_loss": None, "seconds": 50.0, "upload_bytes": 1000, "download_bytes": 2000,
            "peak_memory_bytes": None, "late_from": None, "change_norm": None,
            "answer_seconds": answer_seconds,
        }  # fmt: skip

    told = {
        "round_num": round_num,
        "weights": {"lakeside": 0.25, "northgate": 0.75},
        "sites": [site("lakeside", 10, 1.0, 60.0), site("northgate", 30, 2.0, 100.0)],
        "absent": [{"site": "riverbend", "reason": "no answer after 90 s"}],
        "aggregate_seconds": 2.0,
        "validate_seconds": 18.0,
        "validation": {"loss": 0.5, "ner_strict_f1": 0.625, "ner_lenient_f1": 0.75},
    }
    return told | changes


SETTINGS = {
    "name": "Three hospitals",
    "methods": ["zero_shot", "single_site", "fed_medlora"],
    "training": {"rounds": 3},
    "sites": [{"name": name} for name in ("lakeside", "northgate", "riverbend")],
}


def write_run(folder, rounds, settings=SETTINGS):
    """A run's folder. ``rounds``: folder of a method -> records."""
    told = {"format": "fedmedlora-run", "version": 1, "settings": settings, "run_id": "0"}
    write_json(folder / "run.json", told)
    for method, records in rounds.items():
        for record in records:
            path = folder / "methods" / method / f"round-{record['round_num']:03d}.json"
            write_json(path, record | {"adapter_hash": "0" * 64})
    return folder


def write_state(state, run, live, name="three-hospitals-0123456789ab"):
    """A coordinator's state folder with one submission, which writes into ``run``."""
    write_json(state / name / "submission.json", {"out": str(run)})
    if live is not None:
        write_live(state / name, live)
    return state

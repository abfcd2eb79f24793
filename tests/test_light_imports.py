"""What is often imported loads nothing heavy, so that a command line answers at once."""

import subprocess
import sys

import pytest


def loaded_after(code: str) -> set[str]:
    """Top-level modules in memory after ``code`` ran in a fresh interpreter."""
    told = "import sys\nprint('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{told}"], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split("LOADED", 1)[1].split())


HEAVY = {"torch", "transformers", "peft", "flwr", "cryptography"}


@pytest.mark.parametrize(
    "module",
    ["fedmedlora", "fedmedlora.study", "fedmedlora.aggregation.rule", "fedmedlora.audit.saved_adapter"],
)
def test_light_modules_load_nothing_heavy(module):
    loaded = loaded_after(f"import {module}")
    assert "fedmedlora" in loaded
    assert not HEAVY & loaded


def test_heavy_modules_would_be_seen():
    assert "decimal" in loaded_after("import decimal")
    assert "decimal" not in loaded_after("pass")


def test_help_loads_nothing_heavy():
    loaded = loaded_after(
        "import sys\nfrom fedmedlora.cli import main\nsys.argv = ['fedmedlora', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (0, None), end.code"
    )
    assert not HEAVY & loaded

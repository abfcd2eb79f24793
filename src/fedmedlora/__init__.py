"""Hospitals train one clinical language model together: LoRA adapters travel, notes do not.

Start reading at ``fedmedlora.rounds``. Importing this package imports neither torch nor flwr.
"""

__version__ = "0.1.0"

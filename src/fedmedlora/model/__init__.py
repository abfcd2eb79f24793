"""Base model and LoRA: load, attach, read and write an Adapter; text to token ids."""

import os

# Threads of OpenMP spin while they wait for each other. On a machine that others use too, a spinning
# thread holds the core that the thread it waits for needs: single steps were seen to take ten times as
# long. A short spin and then sleep costs nothing measurable on an idle machine. libgomp reads this once,
# when torch is loaded, so it is set before that; a user's own setting stays.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

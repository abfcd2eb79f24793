"""``python -m fedmedlora``."""

import sys

from fedmedlora.cli import main

sys.exit(main())

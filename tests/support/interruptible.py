"""The program as one that can be interrupted.

SIGINT may be ignored where a test runs in the background, and a child inherits that.
"""

PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from fedmedlora.cli import main; sys.exit(main())"
)

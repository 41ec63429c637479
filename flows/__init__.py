"""Prefect flows over the DVC stages."""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # as it is while `python -m` looks for the module
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted import has no traceback

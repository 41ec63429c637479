"""One thin module per DVC stage."""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # as it is while `python -m` looks for the module
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted import has no traceback

from symbiosis.core.processes import tell_lack_of_memory

tell_lack_of_memory()

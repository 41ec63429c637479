"""The command `symbiosis`: what a user asks for, parsed and printed."""

import os
import signal
import sys

if os.path.basename(sys.argv[0] if sys.argv else "") == "symbiosis":  # noqa: PTH119  (pathlib takes longer)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted import has no traceback

"""Run a module like ``python -m``, but end with the parent process, however the parent ends.

Started by path, ``python flows/child.py MODULE ARGUMENTS``, so that stages inherit no PYTHONPATH.
"""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from symbiosis.core.processes import die_with_parent  # noqa: E402

if __name__ == "__main__":
    die_with_parent()
    sys.path[0] = ""  # as for `python -m`
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

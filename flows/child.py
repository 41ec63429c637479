"""A command of another package that ends with the process that started it, however that one ends.

Started by path, ``python flows/child.py MODULE ARGUMENTS``, so that the search path of what it starts stays as it is.
"""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from symbiosis.stage import die_with_parent  # noqa: E402

if __name__ == "__main__":
    die_with_parent()
    sys.path.pop(0)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

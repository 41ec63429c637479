"""DVC as a child that ends with the process that started it, however that one ends; started by `flows.repro`."""

import sys
from pathlib import Path

# Started by path, so that the stages' own search path stays as it is.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from symbiosis.stage import die_with_parent  # noqa: E402

if __name__ == "__main__":
    die_with_parent()
    from dvc.cli import main

    sys.exit(main(sys.argv[1:]))

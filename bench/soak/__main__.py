"""``python -m bench.soak decisions --decisions 1000000`` and ``python -m bench.soak gateway --minutes 20``."""

import sys

from bench.soak import decisions, gateway

PARTS = {"decisions": decisions.main, "gateway": gateway.main}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in PARTS:
        sys.exit(f"error: name a part: python -m bench.soak {'|'.join(PARTS)} --help")
    PARTS[sys.argv[1]](sys.argv[2:])

"""Run the command without installing it:  python -m symbiosis --help"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted import has no traceback

from symbiosis.cli.app import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())

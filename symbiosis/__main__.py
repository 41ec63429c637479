"""Run the command without installing it:  python -m symbiosis --help"""

from symbiosis.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())

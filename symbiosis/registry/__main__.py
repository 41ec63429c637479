"""Record the pipeline's state in MLflow and register its models.  Run it:  python -m symbiosis.registry

Publishing the same state again adds nothing.
"""

import argparse
import sys
from pathlib import Path

from symbiosis.core.errors import InputError, one_line
from symbiosis.core.processes import print_anything
from symbiosis.registry.publication import publish_state
from symbiosis.tracking.state import experiments
from symbiosis.tracking.store import explain, tracking_uri, without_credentials


def main() -> None:
    """Publish the workspace, or every DVC experiment."""
    parser = argparse.ArgumentParser(prog="python -m symbiosis.registry", description=__doc__)
    parser.add_argument("--experiments", action="store_true", help="record all DVC experiments, not the workspace")
    chosen = parser.parse_args()
    print_anything()
    root = Path.cwd()
    revisions = experiments(root) if chosen.experiments else [None]
    try:
        for revision in revisions:
            done = publish_state(root, revision)
            if done is None:
                print("tracking is switched off: nothing recorded")
                return
            name = f"{revision.rpartition('/')[2]}: " if revision else ""
            for line in done.lines():
                print(f"{name}{line}")
        if not revisions:
            print("there are no DVC experiments: make some with `dvc exp run`")
    except (InputError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # MLflow, SQLAlchemy and requests have no common base
        sys.exit(f"error: MLflow at {without_credentials(tracking_uri(root) or '')} cannot be used: {explain(error)}")


if __name__ == "__main__":
    main()

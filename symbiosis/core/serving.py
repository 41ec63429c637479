"""Which models serve: the promoted ones, or those that the pipeline has left in the workspace."""

from pathlib import Path
from typing import Literal

from symbiosis.core.layout import CHAMPION_RECOMMENDER, CHAMPION_ROUTER, RECOMMENDER

Kind = Literal["router", "recommender"]
LINKS: dict[Kind, Path] = {"router": CHAMPION_ROUTER, "recommender": CHAMPION_RECOMMENDER}
_IN_WORKSPACE: dict[Kind, Path] = {"router": Path(), "recommender": RECOMMENDER}


def current(kind: Kind, root: Path | str = Path()) -> Path | None:
    """Return the folder of the champion that serves here, None if nothing was promoted; asks no registry.

    The link is followed: what is read from the folder belongs together, even if another one is promoted meanwhile.

    Parameters
    ----------
    kind
        Which model.
    root
        The top of the repository, or of a data folder.
    """
    link = Path(root) / LINKS[kind]
    return link.resolve() if link.is_dir() else None


def serving_folder(kind: Kind, root: Path | str = Path()) -> Path:
    """Return the folder with the ``data/`` and ``models/`` that serve: the champion's, else the workspace's.

    Parameters
    ----------
    kind, root
        See `current`.
    """
    return current(kind, root) or Path(root) / _IN_WORKSPACE[kind]

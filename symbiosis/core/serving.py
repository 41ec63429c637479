"""Which models serve: the promoted ones, or those that the pipeline has left in the workspace."""

from pathlib import Path
from typing import Literal

from symbiosis.core.layout import CHAMPION_RECOMMENDER, CHAMPION_ROUTER, RECOMMENDER

Kind = Literal["router", "recommender"]
LINKS: dict[Kind, Path] = {"router": CHAMPION_ROUTER, "recommender": CHAMPION_RECOMMENDER}
_IN_WORKSPACE: dict[Kind, Path] = {"router": Path(), "recommender": RECOMMENDER}


def current(kind: Kind, root: Path | str = Path()) -> Path | None:
    """Return the folder of the champion that serves here, None if nothing was promoted; asks no registry.

    It is where the link leads, not the link: what is read from it belongs together, even if another champion comes
    meanwhile.

    Parameters
    ----------
    kind
        Which model.
    root
        The top of the repository, or of a data folder.
    """
    link = Path(root) / LINKS[kind]
    try:
        folder = link.parent / link.readlink()
    except OSError:  # there is no link
        return None
    return folder if folder.is_dir() else None


def serving_folder(kind: Kind, root: Path | str = Path()) -> Path:
    """Return the folder with the ``data/`` and ``models/`` that serve: the champion's, else the workspace's.

    A workspace whose pipeline has made no final fit of the recommender serves as it is.

    Parameters
    ----------
    kind, root
        See `current`.
    """
    if (champion := current(kind, root)) is not None:
        return champion
    made = Path(root) / _IN_WORKSPACE[kind]
    return made if made.is_dir() else Path(root)

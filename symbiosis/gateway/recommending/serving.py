"""The recommender that serves: loaded beside the requests, replaced when another bundle is promoted.

A newer one is read whole and asked once before it takes over; requests under way end with the one they began with. What
cannot be read, or cannot answer, replaces nothing.
"""

import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbiosis.core import layout
from symbiosis.core.errors import InputError
from symbiosis.core.serving import serving_folder
from symbiosis.gateway.config.schema import RecommenderConfig

if TYPE_CHECKING:
    from symbiosis.recommender.inference.asking import RecommendationRequest, Recommendations
    from symbiosis.recommender.inference.recommender import Recommender

LOG = logging.getLogger("symbiosis.gateway")
THREADS = 4
"""Of their own, so that no recommendation waits for the store or keeps it waiting."""
_TRY_AGAIN_S = 30.0
_LOOKED_AT = (layout.ITEMS, layout.USERS, layout.FINETUNED / "training.json", Path("version.json"))


class RecommenderUnavailable(InputError):  # noqa: N818
    """There is no recommender to ask; the message says why.

    Attributes
    ----------
    is_loading
        Whether it comes by itself in a moment.
    """

    def __init__(self, message: str, is_loading: bool = False) -> None:
        super().__init__(message)
        self.is_loading = is_loading


class RecommenderServing:
    """The recommender of a gateway's process.

    Parameters
    ----------
    config
        Whether there is one, and where.
    root
        The folder that the gateway runs in.
    """

    def __init__(self, config: RecommenderConfig, root: Path | str = ".") -> None:
        self._config, self._root = config, Path(root)
        self._current: Recommender | None = None
        self._signature: object = None
        self._failed: tuple[object, float, str] = (None, 0.0, "")
        self._loading = False
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="recommend")

    def look(self) -> bool:
        """Load what is promoted now, if it is another than what serves; tell whether it is.

        It takes seconds where there is something to load, and belongs into a thread. Of a bundle that could not be
        loaded a line is logged; it is tried again after half a minute, or once it has changed.
        """
        if not self._config.enabled or (folder := self._folder()) is None:
            return False
        signature = self._signature_of(folder)
        failed, at, _ = self._failed
        if signature == self._signature or (signature == failed and time.monotonic() - at < _TRY_AGAIN_S):
            return False
        self._loading = True
        try:
            newer = self._loaded(folder)
        except Exception as error:
            told = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            self._failed = (signature, time.monotonic(), told)
            stays = "the former one stays" if self._current else "recommendations are not served"
            LOG.warning("the recommender in %s cannot be loaded, %s: %s", folder, stays, told)
            return False
        finally:
            self._loading = False
        self._current, self._signature = newer, signature
        self._failed = (None, 0.0, "")
        return True

    @property
    def current(self) -> "Recommender":
        """The recommender that serves; hold on to it for the whole of a request.

        Raises
        ------
        RecommenderUnavailable
            There is none.
        """
        if self._current is not None:
            return self._current
        if not self._config.enabled:
            raise RecommenderUnavailable("recommendations are switched off: set `recommender.enabled` to true")
        if self._failed[2]:
            raise RecommenderUnavailable(f"the recommender cannot be loaded: {self._failed[2]}")
        if self._loading or self._folder() is not None:
            raise RecommenderUnavailable("the recommender is being loaded: try again in a moment", is_loading=True)
        raise RecommenderUnavailable("there is no trained recommender: run `make repro`, or set `recommender.folder`")

    def answer(
        self, request: "RecommendationRequest", written: bool
    ) -> "tuple[Recommendations, Mapping[int, str], str]":
        """Answer a request; belongs into a thread.

        Returns
        -------
        found
            The items.
        reasons
            By item, in the model's words; empty if none was asked for or it cannot write any.
        note
            Why it could not; else empty.
        """
        recommender = self.current
        found = recommender.recommend(request)
        return found, *(recommender.written(found, request.user) if written else ({}, ""))

    def described(self) -> dict[str, Any]:
        """Return which model serves, or why there is none."""
        try:
            recommender = self.current
        except RecommenderUnavailable as error:
            return {"ready": False, "loading": error.is_loading, "reason": str(error)}
        return {"ready": True, "model": recommender.parts.digest}

    def close(self) -> None:
        """End the threads."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    def _folder(self) -> Path | None:
        named = self._config.folder
        folder = serving_folder("recommender", self._root) if named is None else self._root / named
        return folder if (folder / layout.ITEMS).is_file() else None

    def _signature_of(self, folder: Path) -> object:
        """Return what changes when the bundle does: where the link leads, and its files."""
        files = [folder / name for name in _LOOKED_AT]
        if self._config.new_items is not None:
            files.append(self._root / self._config.new_items)
        return os.path.realpath(folder), *(_state(file) for file in files)

    def _loaded(self, folder: Path) -> "Recommender":
        """Read a bundle, and ask it once, so that no request waits for a file.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        from symbiosis.recommender.data.new_items import read_new_items
        from symbiosis.recommender.inference.asking import RecommendationRequest
        from symbiosis.recommender.inference.recommender import Recommender

        # Where the link leads now: what is promoted during the reading must not mix two bundles.
        recommender = Recommender.open(os.path.realpath(folder))
        if self._config.new_items is not None:
            recommender = recommender.with_items(read_new_items(self._root / self._config.new_items))
        parts = recommender.parts
        # The first request waits for none of them, and what is missing is told by its name.
        _ = parts.score, parts.taken, parts.popularity, parts.requests, parts.grounds, parts.digest
        first = recommender.recommend(RecommendationRequest(user=0, count=1))
        if first.method != "model":
            raise InputError(first.note or "the model does not answer")
        return recommender


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

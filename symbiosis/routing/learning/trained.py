"""Where the trained router lies that a workspace starts from: the champion, or what the pipeline has made."""

from dataclasses import dataclass
from pathlib import Path

from symbiosis.core.layout import CHAMPIONS, ENCODER, ROUTER
from symbiosis.core.serving import LINKS, current, serving_folder
from symbiosis.routing.learning.serving_state import FILE, digest_of
from symbiosis.routing.model.router import MANIFEST


@dataclass(frozen=True)
class Trained:
    """A trained router and its encoder. Which ones serve may change at any time.

    Attributes
    ----------
    router, encoder
        Their folders; None: those of the champion, or those of the workspace as long as nothing was promoted.
    root
        Of both.
    """

    router: Path | None = None
    encoder: Path | None = None
    root: Path = Path()

    @property
    def folder(self) -> Path:
        """The router's folder, not a link: what is read from it belongs together."""
        return self.router or serving_folder("router", self.root) / ROUTER

    def encoders(self) -> list[Path]:
        """Return the folders in which the encoder may lie, the likeliest first.

        A state that has learned goes on from a former champion where the newer one needs another encoder.
        """
        if self.encoder is not None:
            return [self.encoder]
        copies = sorted((self.root / LINKS["router"]).parent.glob(f"versions/*/{ENCODER}"))
        places = [serving_folder("router", self.root) / ENCODER, self.root / ENCODER, *copies]
        return [places[0], *(place for place in dict.fromkeys(places[1:]) if place != places[0] and place.is_dir())]

    def stamp(self) -> object:
        """Return what changes when the trained router does; reads no file."""
        try:
            told = (self.folder / MANIFEST).stat()
        except FileNotFoundError:
            return None
        return told.st_mtime_ns, told.st_ino

    def notice(self) -> str | None:
        """Say what a user may not expect: a newer router in the workspace does not serve, or the champion is gone."""
        if self.router is not None:
            return None
        link, made = self.root / LINKS["router"], self.root / ROUTER
        if current("router", self.root) is None:
            if not link.is_symlink():
                return None
            return f"the champion that {link} names is not there, {made} serves: `symbiosis models pull` fetches it"
        if not (made / MANIFEST).is_file() or not (made / FILE).is_file():
            return None
        newer, champion = digest_of(made), digest_of(self.folder)
        if newer == champion:
            return None
        return (
            f"{made} ({newer}) does not serve: the champion in {self.root / CHAMPIONS} ({champion}) does, until "
            "`symbiosis models promote router`"
        )

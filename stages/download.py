"""Fetch or generate the raw reviews and item metadata.  Run it:  python -m stages.download"""

from symbiosis.core.artifacts import staged
from symbiosis.core.layout import CHECKPOINTS, RAW_REVIEWS
from symbiosis.core.stage import run
from symbiosis.reviews.params import DownloadParams
from symbiosis.reviews.sources import obtain


def work(params: DownloadParams) -> None:
    """Put the files of the chosen source into place."""
    with staged(RAW_REVIEWS) as (folder,):
        obtain(params, folder, CHECKPOINTS / "download")


if __name__ == "__main__":
    run("download", DownloadParams, work)

"""Fetch or generate the raw reviews and item metadata.  Run it:  python -m stages.download"""

from pathlib import Path

from symbiosis.core.artifacts import staged
from symbiosis.reviews.params import DownloadParams
from symbiosis.reviews.sources import obtain
from symbiosis.stage import run

RAW = Path("data/raw/reviews")
PARTIAL = Path(".checkpoints/download")  # no output of the stage: DVC would delete it before every run


def work(params: DownloadParams) -> None:
    """Put the files of the chosen source into place."""
    with staged(RAW) as (folder,):
        obtain(params, folder, PARTIAL)


if __name__ == "__main__":
    run("download", DownloadParams, work)

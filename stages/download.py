"""Fetch or generate the raw reviews and item metadata.  Run it:  python -m stages.download"""

from pathlib import Path

from symbiosis.amazon.params import DownloadParams
from symbiosis.amazon.sources import obtain
from symbiosis.artifacts import staged
from symbiosis.stage import run

RAW = Path("data/raw/reviews")
PARTIAL = Path(".checkpoints/download")  # no output of the stage: DVC would delete it before every run


def work(params: DownloadParams) -> None:
    """Put the files of the chosen source into place."""
    with staged(RAW) as (folder,):
        obtain(params, folder, PARTIAL)


if __name__ == "__main__":
    run("download", DownloadParams, work)

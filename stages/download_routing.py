"""Fetch or generate the table of queries answered by several LLMs.  Run it:  python -m stages.download_routing"""

from symbiosis.core.artifacts import staged
from symbiosis.core.stage import run
from symbiosis.routing.data.params import DownloadRoutingParams
from symbiosis.routing.data.sources import fetch


def work(params: DownloadRoutingParams) -> None:
    """Write data/raw/routing: the table as given and its manifest."""
    with staged("data/raw/routing") as (folder,):
        fetch(params, folder)


if __name__ == "__main__":
    run("download_routing", DownloadRoutingParams, work)

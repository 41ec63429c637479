"""Prefect's server behind a guard of hosts and origins.  Run it:  python -m flows.prefect_server --port 4200

`prefect server start` answers under any host name, lets pages of any origin read and write, and takes events from any
page over websockets: a page in the user's browser could start flow runs.
"""

import argparse
import os

from flows.workspace import checked_port, command

HOST = "127.0.0.1"


def main() -> None:
    """Serve until interrupted, with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="python -m flows.prefect_server", description=__doc__)
    parser.add_argument("--port", metavar="N", required=True, help="on 127.0.0.1")
    with command():
        port = checked_port(parser.parse_args().port, "--port")
        own = f"http://{HOST}:{port}"
        os.environ["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] = own
        os.environ["PREFECT_SERVER_API_HOST"], os.environ["PREFECT_SERVER_API_PORT"] = HOST, str(port)

        # Prefect reads its settings when it is imported.
        import uvicorn
        from prefect.server.api.server import create_app

        from symbiosis.core.hosts import HostGuard

        guarded = HostGuard(create_app(final=True))
        uvicorn.run(guarded, host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    main()

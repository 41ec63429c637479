"""Telemetry of every dependency, off unless the user's environment says otherwise."""

import os

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def switch_telemetry_off() -> None:
    """Set the variables that are not set; call it before the libraries are imported."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)

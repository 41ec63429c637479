"""The router as MLflow loads it: from a query's text to the LLM that answers it and what is expected of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class RouterModel(PythonModel):
    """Decides as a state that has learned nothing yet does, for the trade-off that the router was trained for."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the router and its encoder from the model's files."""
        from symbiosis.core.layout import ENCODER, ROUTER
        from symbiosis.routing.learning.serving_state import ServingState
        from symbiosis.routing.model.router import Router
        from symbiosis.routing.policy.objectives import TradeOff
        from symbiosis.routing.queries.query_encoder import QueryEncoder
        from symbiosis.routing.serving.service import RoutingService

        folder = Path(context.artifacts["bundle"])
        known = ServingState.load(folder / ROUTER)
        self.service = RoutingService(
            Router.load(folder / ROUTER),
            TradeOff(known.trade_off),
            encode=QueryEncoder.load(folder / ENCODER, known.vectors),
            experience=known.experience,
        )

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Decide each query of the column ``query`` as if it came alone.

        Returns
        -------
        DataFrame
            A row a query: the chosen LLM, and its expected quality (0 to 1), tokens and cost (USD).
        """
        rows = []
        idle = np.zeros(len(self.service.router.llms))
        for text in model_input["query"]:
            chosen = self.service.route(text, waits_s=idle)
            arm = chosen.arm
            expected = (chosen.quality[arm], chosen.response_tokens[arm], chosen.cost_usd[arm])
            rows.append((chosen.llm, *map(float, expected)))
        return pd.DataFrame(rows, columns=["llm", "quality", "response_tokens", "cost_usd"])


set_model(RouterModel())

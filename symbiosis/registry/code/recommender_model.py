"""The recommender as MLflow loads it: from a user, a session or a text to items."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class RecommenderModel(PythonModel):
    """Recommends as `symbiosis recommend` does, without filters."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model's files."""
        from symbiosis.recommender.inference.recommender import Recommender

        self.recommender = Recommender.open(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer each row: ``user``, ``session`` (items, oldest first), ``text`` and ``count``, all optional.

        Returns
        -------
        DataFrame
            A row a request: the items by their ids, best first, with titles and scores, how they were found and why
            not by the model.
        """
        from symbiosis.recommender.inference.asking import RecommendationRequest

        rows = []
        for asked in model_input.to_dict("records"):
            given = {name: value for name, value in asked.items() if _is_given(value)}
            request = RecommendationRequest(
                user=given.get("user"),
                session=tuple(given.get("session", ())),
                text=given.get("text"),
                count=int(given.get("count", 10)),
            )
            answer = self.recommender.recommend(request)
            items = answer.items
            rows.append(
                (
                    [item.item_id for item in items],
                    [item.title for item in items],
                    [float(item.score) for item in items],
                    answer.method,
                    answer.note or "",
                )
            )
        return pd.DataFrame(rows, columns=["items", "titles", "scores", "method", "note"])


def _is_given(value: object) -> bool:
    """Tell whether a cell holds something; pandas fills with NaN or None."""
    return value is not None and not (isinstance(value, float) and value != value)


set_model(RecommenderModel())

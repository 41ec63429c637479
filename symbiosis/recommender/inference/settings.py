"""What training has written of itself, ``training.json``, as far as it is needed to score and to write."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.recommender.network.attention import BiasMode

FILE = "training.json"


class TrainingSettings(BaseModel):
    """Settings of a trained model; what else the file tells is not read.

    Attributes
    ----------
    bias, graph_term, language_model, personal_gates, maximum_items, seed
        See `symbiosis.recommender.training.params.FinetuneParams`.
    mean_rating
        Of the ratings it learned from; None without them.
    content_epochs
        Of pre-training on texts; None: an older model, which does not say.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    bias: BiasMode
    graph_term: bool = False
    language_model: bool = True
    personal_gates: bool = False
    maximum_items: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    mean_rating: float | None = None
    content_epochs: int | None = None

    @classmethod
    def load(cls, folder: Path, *needed: str, stage: str) -> "TrainingSettings":
        """Read the file of a folder.

        Parameters
        ----------
        folder
            Of the model.
        *needed
            Settings that must be there.
        stage
            That writes it, for messages.

        Raises
        ------
        InputError
            The file is missing, or a setting is, or is of another kind.
        """
        path = folder / FILE
        told = read_json(path)
        try:
            settings = cls.model_validate(told)
            missing = [name for name in needed if name not in settings.model_fields_set]
            fault = f"`{missing[0]}` is missing" if missing else None
        except ValidationError as error:
            first = error.errors()[0]
            fault = f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}"
        if fault is not None:
            raise InputError(f"{path} is damaged ({fault}): run `dvc repro {stage}`")
        return settings

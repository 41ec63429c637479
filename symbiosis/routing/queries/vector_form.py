"""How vectors of queries were made, so that a router is never given vectors of another kind."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError

MANIFEST = "manifest.json"


class VectorForm(BaseModel):
    """How vectors of queries were made: a router and the vectors that it is given must agree in all of it.

    Attributes
    ----------
    weights_sha256
        Of the encoder, `symbiosis.text.encoder.weights_sha256`.
    maximum_tokens, precision
        How much of a text it reads, and in which precision.
    shape_weight
        See `symbiosis.routing.queries.text_shape.query_vectors`.
    text_shape
        Version of the counts of the text's form.
    dimension
        Numbers of a vector.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    weights_sha256: str
    maximum_tokens: int = Field(ge=1)
    precision: Literal["float32", "bfloat16", "int8"]
    shape_weight: float = Field(ge=0)
    text_shape: int
    dimension: int = Field(ge=1)

    @classmethod
    def read(cls, embeddings: Path | str) -> "VectorForm":
        """Read the manifest of ``data/embeddings``.

        Raises
        ------
        InputError
            It is missing or damaged, or comes from an older version.
        """
        path = Path(embeddings) / MANIFEST
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{path}: `{'.'.join(map(str, first['loc'])) or 'manifest'}`: {first['msg']}; "
                f"delete {embeddings} and run `dvc repro embed-queries router-train`"
            ) from None

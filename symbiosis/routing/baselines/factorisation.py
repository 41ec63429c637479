"""LLMs and queries as vectors in one space."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

"""Users and items by name: numbers of the pipeline, original ids of the data, titles."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from symbiosis.core.artifacts import read_frame
from symbiosis.core.errors import InputError, quoted

_COLUMNS = {
    "users": ["user", "user_id"],
    "items": ["item", "item_id", "title"],
}


@dataclass(frozen=True)
class Catalogue:
    """The users and items of a data set.

    Attributes
    ----------
    users
        Columns ``user, user_id``, one row a user, in order.
    items
        Columns ``item, item_id, title``, one row an item, in order.
    """

    users: pl.DataFrame
    items: pl.DataFrame

    @classmethod
    def load(cls, folder: Path | str) -> "Catalogue":
        """Read what the stage `clean` wrote.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        folder = Path(folder)
        users, items = (read_frame(folder / f"{name}.parquet", columns) for name, columns in _COLUMNS.items())
        return cls(users.sort("user"), items.sort("item"))

    def with_items(self, new: pl.DataFrame) -> "Catalogue":
        """Return the same with new items behind the others; `new` has their columns."""
        return Catalogue(self.users, pl.concat([self.items, new.select(self.items.columns)]))

    def find_user(self, name: str) -> int | None:
        """Return the number of a user as `user` does, None if there is none."""
        return _found(name, self._user_numbers)

    def find_item(self, name: str) -> int | None:
        """Return the number of an item as `item` does, None if there is none."""
        return _found(name, self._item_numbers)

    def user(self, name: str) -> int:
        """Return the number of the user with this original id or, where no user has that id, this number.

        Raises
        ------
        InputError
            There is no such user.
        """
        return _number(name, "user", self._user_numbers)

    def item(self, name: str) -> int:
        """Return the number of the item with this original id or, where no item has that id, this number.

        Raises
        ------
        InputError
            There is no such item.
        """
        return _number(name, "item", self._item_numbers)

    def title(self, item: int) -> str:
        """Return the title of an item, its original id where it has none."""
        return str(self.items["title"][item] or self.items["item_id"][item])

    def item_id(self, item: int) -> str:
        """Return the original id of an item."""
        return str(self.items["item_id"][item])

    @cached_property
    def _user_numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.users["user_id"])}

    @cached_property
    def _item_numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.items["item_id"])}


def _found(name: str, numbers: dict[str, int]) -> int | None:
    if name in numbers:
        return numbers[name]
    if name.isascii() and name.isdecimal() and len(name) < 20 and int(name) < len(numbers):
        return int(name)
    return None


def _number(name: str, noun: str, numbers: dict[str, int]) -> int:
    found = _found(name, numbers)
    if found is not None:
        return found
    example = next(iter(numbers), "")
    raise InputError(
        f"{noun} {quoted(name)} is unknown: give an original id such as {example} (data/clean/{noun}s.parquet, column "
        f"{noun}_id) or a number from 0 to {len(numbers) - 1}"
    )

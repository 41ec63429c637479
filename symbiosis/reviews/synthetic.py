"""A small generative model of shoppers and goods, the source `synthetic`.

Goods. Items belong to leaf categories (in departments), carry a brand of their department and one style (compact,
vintage, ...), have a quality and, within their category, a popularity with a heavy tail.

Shoppers. Each belongs to a taste group, which favours an ordered list of three categories, and likes the first one to
three of them; he also has a favourite style and a favourite brand in each department. His activity has a heavy tail.

A purchase. The shopper picks a category: one of his favourites with fixed weights or, with probability ``drift``, the
one whose turn it is (first favourites early, last ones late); with a small probability any category at all. There he
considers a few items, drawn by popularity, and takes the one of the largest utility (multinomial logit: brand match,
style match, quality and Gumbel noise). The rating is the utility plus a bonus for a favourite category, with noise,
rounded to 1..5 stars.

Purchases go on until every shopper has given 4 or 5 stars as often as his activity says; the poorer ratings on the
way stay in the data. At the end each item with fewer than five good ratings takes over some of those of well-known
items of its category. So after the rating filter and the 5-core exactly the users, items and interactions that were
asked for are left, popularity beats chance, and taste (categories, brands, styles: all told in the texts) beats
popularity.
"""

from dataclasses import dataclass

import numpy as np

from symbiosis.reviews.params import SyntheticReviews

CORE = 5
GOOD = 4  # stars
STYLES = 12
DEPARTMENTS, LEAVES = 16, 12  # largest numbers; `symbiosis.reviews.vocabulary` has words for so many
BRANDS = 48  # of a department, largest number

_FAVOURITES = 3
_WEIGHTS = np.array([0.5, 0.3, 0.2])
_CONSIDERED = 4
_EXPLORATION = 0.1
_BRAND, _STYLE, _FAVOURITE, _QUALITY = 1.2, 0.8, 0.9, 0.5  # utilities
_AVERAGE, _NOISE = 3.3, 0.8  # stars
_ROUNDS = 12
_DAY = 86_400
_FIRST_DAY, _DAYS = 15_706, 2_000  # 2013-01-01; shoppers' first days


@dataclass(frozen=True)
class Goods:
    """Items, in the order of their categories.

    Attributes
    ----------
    category, brand, style
        Shape (items,): leaf category, brand within its department, style.
    quality
        Shape (items,), standard normal.
    popularity
        Shape (items + 1,): cumulative weights.
    starts
        Shape (categories + 1,): where each category's items begin.
    departments
        How many; the department of category ``c`` is ``c % departments``.
    """

    category: np.ndarray
    brand: np.ndarray
    style: np.ndarray
    quality: np.ndarray
    popularity: np.ndarray
    starts: np.ndarray
    departments: int


@dataclass(frozen=True)
class Shoppers:
    """Users and their tastes.

    Attributes
    ----------
    favourites
        Shape (users, 3): categories, the most liked first.
    liked
        Shape (users,): how many of these count, 1..3.
    brand
        Shape (users, departments).
    style, activity
        Shape (users,).
    """

    favourites: np.ndarray
    liked: np.ndarray
    brand: np.ndarray
    style: np.ndarray
    activity: np.ndarray


@dataclass(frozen=True)
class World:
    """What the model generated.

    Attributes
    ----------
    goods, shoppers
        The two sides.
    user, item, stars, timestamp
        Shape (reviews,): the reviews, sorted by item and time; every (user, item) pair once; whole days.
    """

    goods: Goods
    shoppers: Shoppers
    user: np.ndarray
    item: np.ndarray
    stars: np.ndarray
    timestamp: np.ndarray


def generate(size: SyntheticReviews, seed: int) -> World:
    """Draw a world of the given size.

    Parameters
    ----------
    size
        ``interactions`` counts the good ratings, which are those that survive the rating filter and the 5-core.
    seed
        Same seed, same world.
    """
    rng = np.random.default_rng(seed)
    goods = _goods(rng, size.items)
    shoppers = _shoppers(rng, size, goods)
    user, item, stars, moment = _purchases(rng, goods, shoppers, size.drift)
    item = _spread(rng, goods, user, item, stars)
    first = rng.integers(0, _DAYS, size.users)
    span = rng.lognormal(6, 0.6, size.users)  # days from the first to the last purchase, 400 at the median
    timestamp = (_FIRST_DAY + first[user] + (moment * span[user]).astype(np.int64)) * _DAY
    order = np.lexsort((user, timestamp, item))
    return World(goods, shoppers, user[order], item[order], stars[order], timestamp[order])


def _goods(rng: np.random.Generator, count: int) -> Goods:
    categories = int(np.clip(round(count**0.5), 4, DEPARTMENTS * LEAVES))
    departments = int(np.clip(round(categories**0.5), 2, DEPARTMENTS))
    departments = max(departments, -(-categories // LEAVES))
    # Every category has a few items at least, the rest fall unevenly.
    sizes = 2 + rng.multinomial(count - 2 * categories, rng.dirichlet(np.full(categories, 4.0)))
    category = np.repeat(np.arange(categories), sizes)
    rank = np.concatenate([rng.permutation(size) for size in sizes])
    share = rng.dirichlet(np.full(categories, 4.0))[category]
    weight = share / (rank + 2.0)
    brands = int(np.clip(round(count / departments / 12), 3, BRANDS))
    of_brand = 1 / (np.arange(brands) + 2.0)
    return Goods(
        category=category,
        brand=rng.choice(brands, count, p=of_brand / of_brand.sum()),
        style=rng.integers(0, STYLES, count),
        quality=rng.standard_normal(count),
        popularity=np.concatenate([[0.0], np.cumsum(weight)]),
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        departments=departments,
    )


def _shoppers(rng: np.random.Generator, size: SyntheticReviews, goods: Goods) -> Shoppers:
    categories = len(goods.starts) - 1
    # One taste group a category; the other two favourites are the group's own, often of another department, so that
    # the texts alone do not tell them.
    groups = np.column_stack(
        [np.arange(categories), *(np.roll(rng.permutation(categories), 1) for _ in range(_FAVOURITES - 1))]
    )
    group = rng.choice(categories, size.users, p=rng.dirichlet(np.full(categories, 4.0)))
    brands = int(goods.brand.max()) + 1
    return Shoppers(
        favourites=groups[group],
        liked=rng.choice([1, 2, 3], size.users, p=[0.3, 0.4, 0.3]),
        brand=rng.integers(0, brands, (size.users, goods.departments)),
        style=rng.integers(0, STYLES, size.users),
        activity=_activity(rng, size),
    )


def _activity(rng: np.random.Generator, size: SyntheticReviews) -> np.ndarray:
    """Return how many good ratings each user gives: at least 5, heavy-tailed, at most half of the items."""
    activity = np.full(size.users, CORE)
    most = max(size.items // 2, CORE)
    weight = rng.lognormal(0, 1, size.users)
    while missing := size.interactions - int(activity.sum()):
        free = weight * (activity < most)
        activity = np.minimum(activity + rng.multinomial(missing, free / free.sum()), most)
    return activity


def _utility(goods: Goods, shoppers: Shoppers, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    department = goods.category[item] % goods.departments
    return (
        _BRAND * (goods.brand[item] == shoppers.brand[user, department])
        + _STYLE * (goods.style[item] == shoppers.style[user])
        + _QUALITY * goods.quality[item]
    )


def is_favourite(goods: Goods, shoppers: Shoppers, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Whether an item's category is one that the user likes."""
    counts = np.arange(_FAVOURITES) < shoppers.liked[user, None]
    favourite: np.ndarray = ((shoppers.favourites[user] == goods.category[item][:, None]) & counts).any(axis=1)
    return favourite


def _choose(
    rng: np.random.Generator,
    goods: Goods,
    shoppers: Shoppers,
    user: np.ndarray,
    moment: np.ndarray,
    drift: float,
    exploration: float,
) -> np.ndarray:
    """Draw one item for every (user, moment in 0..1)."""
    n, categories = len(user), len(goods.starts) - 1
    liked = shoppers.liked[user]
    cumulative = np.cumsum(_WEIGHTS)
    fixed = np.searchsorted(cumulative, rng.random(n) * cumulative[liked - 1], side="right")
    turn = np.where(rng.random(n) < drift, (moment * liked).astype(np.int64), fixed)
    category = shoppers.favourites[user, np.minimum(turn, liked - 1)]
    share = np.diff(goods.popularity[goods.starts])
    anywhere = rng.choice(categories, n, p=share / share.sum())
    category = np.where(rng.random(n) < exploration, anywhere, category)
    first, last = goods.starts[category], goods.starts[category + 1] - 1
    low, high = goods.popularity[first], goods.popularity[last + 1]
    drawn = low[:, None] + rng.random((n, _CONSIDERED)) * (high - low)[:, None]
    considered = np.searchsorted(goods.popularity, drawn, side="right") - 1
    considered = np.clip(considered, first[:, None], last[:, None])
    utility = _utility(goods, shoppers, user[:, None], considered) + rng.gumbel(size=considered.shape)
    return considered[np.arange(n), utility.argmax(axis=1)]


def _rate(rng: np.random.Generator, goods: Goods, shoppers: Shoppers, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    stars = _AVERAGE + _utility(goods, shoppers, user, item) + rng.normal(0, _NOISE, len(user))
    stars += _FAVOURITE * is_favourite(goods, shoppers, user, item)
    return np.clip(np.rint(stars), 1, 5).astype(np.int8)


def _purchases(
    rng: np.random.Generator, goods: Goods, shoppers: Shoppers, drift: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return user, item, stars and moment (in 0..1) of all reviews; good ones as many as each user's activity."""
    items, users = len(goods.category), len(shoppers.activity)
    missing = shoppers.activity.copy()
    taken = np.empty(0, dtype=np.int64)  # pairs as user * items + item, sorted
    parts: list[tuple[np.ndarray, ...]] = []
    for attempt in range(_ROUNDS):
        # Who has bought most of what he likes looks farther and farther afield.
        draws = np.where(missing > 0, np.ceil(1.5 * missing).astype(np.int64) + 1 + attempt, 0)
        user = np.repeat(np.arange(users), draws)
        moment = rng.random(len(user))
        item = _choose(rng, goods, shoppers, user, moment, drift, min(1.0, _EXPLORATION * (1 + attempt)))
        pair = user * items + item
        once = np.zeros(len(pair), dtype=bool)
        once[np.unique(pair, return_index=True)[1]] = True
        once &= ~np.isin(pair, taken)
        user, item, moment = user[once], item[once], moment[once]
        stars = _rate(rng, goods, shoppers, user, item)
        good = stars >= GOOD
        before: np.ndarray = np.cumsum(good) - good  # good ones earlier in the list, of all users and then of this one
        starts = np.searchsorted(user, user)
        kept = before - before[starts] < missing[user]
        parts.append((user[kept], item[kept], stars[kept], moment[kept]))
        missing -= np.bincount(user[kept & good], minlength=users)
        taken = np.sort(np.concatenate([taken, user[kept] * items + item[kept]]))
        if not missing.any():
            break
    user, item, stars, moment = (np.concatenate(column) for column in zip(*parts, strict=True))
    if missing.any():
        return _complete(rng, items, missing, user, item, stars, moment)
    return user, item, stars, moment


def _complete(
    rng: np.random.Generator,
    items: int,
    missing: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    stars: np.ndarray,
    moment: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the few users who are still short some four-star items: new ones, or some that they first liked less."""
    who = np.flatnonzero(missing)
    rows = np.flatnonzero(np.isin(user, who))
    row_of = dict(zip(zip(user[rows].tolist(), item[rows].tolist(), strict=True), rows.tolist(), strict=True))
    extra: list[tuple[int, int]] = []
    for one in who.tolist():
        rows_or_new = ((what, row_of.get((one, what))) for what in rng.permutation(items).tolist())
        fitting = [(what, row) for what, row in rows_or_new if row is None or stars[row] < GOOD][: missing[one]]
        for what, row in fitting:
            if row is None:
                extra.append((one, what))
            else:
                stars[row] = GOOD
    more = np.array(extra, dtype=np.int64).reshape(-1, 2)
    return (
        np.concatenate([user, more[:, 0]]),
        np.concatenate([item, more[:, 1]]),
        np.concatenate([stars, np.full(len(more), GOOD, dtype=np.int8)]),
        np.concatenate([moment, rng.random(len(more))]),
    )


def _spread(
    rng: np.random.Generator, goods: Goods, user: np.ndarray, item: np.ndarray, stars: np.ndarray
) -> np.ndarray:
    """Give every item at least five good ratings, taken from well-known items, of the same category if it has any.

    Users keep their numbers of ratings; returns the new items of the reviews.
    """
    items = len(goods.category)
    item = item.copy()
    good = np.flatnonzero(stars >= GOOD)
    attempt = 0
    while True:
        degree = np.bincount(item[good], minlength=items)
        needy = np.repeat(np.arange(items), np.maximum(CORE - degree, 0))
        if not len(needy):
            return item
        attempt += 1
        rich = good[degree[item[good]] > CORE]
        rich = rich[np.argsort(goods.category[item[rich]], kind="stable")]
        category = goods.category[item[rich]]
        low = np.searchsorted(category, goods.category[needy], side="left")
        high = np.searchsorted(category, goods.category[needy], side="right")
        if attempt > _ROUNDS:
            low, high = np.zeros_like(low), np.full_like(high, len(rich))
        needy, low, high = (array[high > low] for array in (needy, low, high))
        giver = rich[rng.integers(low, high)]
        # Each review moves once, each pair is new, and no giver falls below five.
        fits = np.zeros(len(needy), dtype=bool)
        fits[np.unique(giver, return_index=True)[1]] = True
        pair = user[giver] * items + needy
        new = np.zeros(len(needy), dtype=bool)
        new[np.unique(pair, return_index=True)[1]] = True
        fits &= new & ~np.isin(pair, user * items + item)
        giver, needy = giver[fits], needy[fits]
        order = np.argsort(item[giver], kind="stable")
        giver, needy = giver[order], needy[order]
        place = np.arange(len(giver)) - np.searchsorted(item[giver], item[giver])
        moves = place < degree[item[giver]] - CORE
        item[giver[moves]] = needy[moves]

"""A synthetic table of queries answered by several LLMs: a small generative model with known structure.

For query n of sub-domain s in domain d, and LLM l:

    difficulty     b_n = offset_d + u_n,                      u_n ~ N(0, 1)
    visible part   v_n = u_n + 0.5 N(0, 1), rounded to a level 0..4 that sets the wording and length of the text
    skill          theta_{l,s} = base_l + affinity_{l,d} + 0.3 N(0, 1)
    quality        y_{n,l} ~ Bernoulli(sigmoid(1.6 (theta_{l,s} - b_n)))
    prompt tokens  characters of the text / 4, rounded up, and context_d
    response       log N(log(length_d verbosity_l) + 0.2 u_n, 0.5), whole tokens, at least 1
    cost           tokens times the LLM's list price
    latency        (start-up_l + response tokens / rate_l) times log N(0, 0.15)

Quality follows the two-parameter logistic model of item response theory (Birnbaum 1968, in Lord and Novick,
"Statistical Theories of Mental Test Scores", chapter 17) with one discrimination for all queries. One expensive LLM
is good at everything and three cheap ones are better than it in a domain of their own, so a router that recognises
domains gains quality and saves money; one that also reads the difficulty saves more; a random one gains nothing.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

DISCRIMINATION = 1.6
HIDDEN_DIFFICULTY = 0.5
TOKENS_BASIS = "synthetic"


@dataclass(frozen=True)
class Domain:
    """A field of queries: how hard it is, how long its answers are, and the topics of its sub-domains.

    `context` tokens of worked examples or tools come with each query and are not in its text, as in real tables.
    """

    name: str
    offset: float
    length: float
    topics: dict[str, tuple[str, ...]]
    context: int = 0


@dataclass(frozen=True)
class Llm:
    """A made-up LLM. Prices in USD per million tokens, start-up in seconds, rate in tokens per second."""

    name: str
    skill: float
    affinity: dict[str, float]
    price_prompt: float
    price_response: float
    startup: float
    rate: float
    verbosity: float


DOMAINS = (
    Domain(
        "mathematics",
        0.5,
        180,
        {
            "algebra": (
                "quadratic equations", "matrix eigenvalues", "polynomial factorisation", "systems of linear equations",
                "cyclic groups", "logarithms", "modular arithmetic", "complex roots",
            ),
            "probability": (
                "conditional probability", "the expected value of dice", "random walks", "Markov chains",
                "the binomial distribution", "Bayes' theorem", "the variance of a sum", "coupon collecting",
            ),
            "geometry": (
                "the area of a triangle", "inscribed circles", "the Pythagorean theorem", "similar polygons",
                "conic sections", "the volume of a cone", "angle bisectors", "vector projections",
            ),
        },
        context=480,
    ),
    Domain(
        "programming",
        0.2,
        240,
        {
            "python": (
                "a Python generator", "list comprehensions", "a recursive function", "exception handling in Python",
                "a decorator with arguments", "unit tests with fixtures", "string formatting", "a class hierarchy",
            ),
            "databases": (
                "an SQL join", "a database index", "transaction isolation", "a normalised schema",
                "window functions in SQL", "a slow query plan", "foreign keys", "database replication",
            ),
            "systems": (
                "a mutex and a deadlock", "a memory leak in C", "TCP congestion control", "a hash table",
                "process scheduling", "a cache eviction policy", "a shell pipeline", "garbage collection",
            ),
        },
        context=320,
    ),
    Domain(
        "law",
        0.3,
        200,
        {
            "contracts": (
                "breach of contract", "a penalty clause", "offer and acceptance", "a lease agreement",
                "force majeure", "the duty of good faith", "a warranty disclaimer", "liquidated damages",
            ),
            "criminal": (
                "criminal intent", "the right to silence", "self-defence", "the burden of proof",
                "hearsay evidence", "plea bargaining", "an unlawful search", "the statute of limitations",
            ),
            "intellectual_property": (
                "a patent claim", "copyright and fair use", "trademark dilution", "a trade secret",
                "a licence agreement", "prior art", "moral rights of authors", "design protection",
            ),
        },
    ),
    Domain(
        "medicine",
        0.2,
        190,
        {
            "cardiology": (
                "high blood pressure", "atrial fibrillation", "heart failure", "the risk of stroke",
                "a heart murmur", "coronary artery disease", "an electrocardiogram", "cardiac arrest",
            ),
            "infections": (
                "bacterial pneumonia", "antibiotic resistance", "influenza vaccination", "malaria prophylaxis",
                "sepsis", "a urinary tract infection", "tuberculosis screening", "viral hepatitis",
            ),
            "nutrition": (
                "vitamin D deficiency", "type 2 diabetes and diet", "iron absorption", "protein requirements",
                "food allergies in children", "dietary fibre", "lactose intolerance", "obesity treatment",
            ),
        },
    ),
    Domain(
        "history",
        -0.1,
        160,
        {
            "antiquity": (
                "the fall of the Roman Republic", "Athenian democracy", "the Punic Wars", "the pharaohs of Egypt",
                "Alexander the Great", "the Persian Empire", "Roman aqueducts", "the Bronze Age collapse",
            ),
            "revolutions": (
                "the French Revolution", "the Russian Revolution", "the American Declaration of Independence",
                "the revolutions of 1848", "the Haitian Revolution", "the Meiji Restoration",
                "the Glorious Revolution", "decolonisation in Africa",
            ),
            "trade": (
                "the Silk Road", "the Hanseatic League", "the spice trade", "the Dutch East India Company",
                "the Great Depression", "the gold standard", "the Industrial Revolution", "medieval guilds",
            ),
        },
    ),
    Domain(
        "everyday",
        -0.7,
        110,
        {
            "cooking": (
                "a vegetable soup", "sourdough bread", "roasting a chicken", "a chocolate cake",
                "fresh pasta", "a salad dressing", "cooking rice", "pickled cucumbers",
            ),
            "travel": (
                "packing for a beach holiday", "a weekend in the mountains", "train travel with children",
                "a city trip on a budget", "jet lag", "camping in the rain", "booking a hotel", "a road trip",
            ),
            "garden": (
                "growing tomatoes", "pruning roses", "a compost heap", "watering house plants",
                "a herb garden", "getting rid of slugs", "planting bulbs", "mowing the lawn",
            ),
        },
    ),
)  # fmt: skip

LLMS = (
    Llm("grand-1t", 1.4, {}, 10, 30, 0.6, 25, 1.3),
    Llm("sage-70b", 0.6, {"medicine": 1.5, "law": 0.7}, 0.9, 0.9, 0.5, 60, 1.1),
    Llm("forge-34b", 0.3, {"programming": 1.9, "mathematics": 0.9, "law": -0.6}, 0.8, 0.8, 0.5, 60, 1.0),
    Llm("quill-34b", 0.3, {"history": 1.8, "everyday": 0.6, "programming": -0.8}, 0.6, 0.6, 0.5, 60, 1.2),
    Llm("swift-13b", 0.0, {"everyday": 0.6, "mathematics": -0.4}, 0.3, 0.3, 0.3, 110, 0.8),
    Llm("pocket-7b", -0.6, {"everyday": 0.8}, 0.1, 0.2, 0.3, 110, 0.7),
)

# By visible difficulty, easiest first: how the query opens, and how many topics and conditions it has.
OPENINGS = (
    ("What is {}?", "Tell me about {}.", "Give a simple example of {}."),
    ("How does {} work?", "Describe {} briefly.", "Summarise the main points of {}."),
    ("Explain {} and when it matters.", "Discuss {} with an example.", "Compare two views of {}."),
    ("Analyse {} in depth.", "Work through a complicated case of {}.", "Find the flaw in a common argument on {}."),
    (
        "Derive a rigorous treatment of {} from first principles.",
        "Resolve an unsettled expert dispute on {}.",
        "Give a complete and rigorous justification for an unusual case of {}.",
    ),
)
CONDITIONS = (
    "Justify every step.",
    "Treat all the exceptions separately.",
    "State precisely which assumptions may fail.",
    "Show how the answer changes when the usual simplification is dropped.",
    "Reconcile it with the strongest counterexample that you know.",
    "Give the answer for the general case and prove that it is complete.",
)
# Who asks and what for: says nothing of domain or difficulty, and keeps most texts apart.
ASKERS = ("a student", "a teacher", "a retired engineer", "a journalist", "a new employee", "a parent", "a volunteer",
          "a translator", "a manager", "a librarian", "a freelancer", "a curious reader")  # fmt: skip
PURPOSES = ("a talk next week", "a club newsletter", "an exam", "a friend", "my own notes", "a workshop", "a podcast",
            "a study group", "an interview", "a short article", "a debate", "a colleague")  # fmt: skip
TOPICS_PER_QUERY = (1, 1, 1, 2, 2)
CONDITIONS_PER_QUERY = (0, 0, 1, 2, 3)


def generate(queries: int, seed: int) -> pl.DataFrame:
    """Draw a routing table, one row per query and LLM.

    Parameters
    ----------
    queries
        Number of queries.
    seed
        The same seed and size give the same table.

    Returns
    -------
    polars.DataFrame
        ``queries * len(LLMS)`` rows in the raw layout of `symbiosis.routing.data.readers.columns.COLUMNS`.
    """
    rng = np.random.default_rng(seed)
    places = [(domain, name) for domain in DOMAINS for name in domain.topics]
    affinity = np.array([[llm.skill + llm.affinity.get(domain.name, 0.0) for llm in LLMS] for domain, _ in places])
    skill = affinity + 0.3 * rng.standard_normal(affinity.shape)

    place = rng.integers(len(places), size=queries)
    common = rng.standard_normal(queries)
    visible = common + HIDDEN_DIFFICULTY * rng.standard_normal(queries)
    level = np.clip(np.rint(2 + 1.2 * visible), 0, 4).astype(int)
    texts = [_text(places[p][0].topics[places[p][1]], v, rng) for p, v in zip(place, level, strict=True)]

    offset = np.array([domain.offset for domain, _ in places])[place]
    chance = 1 / (1 + np.exp(-DISCRIMINATION * (skill[place] - (offset + common)[:, None])))
    quality = rng.random(chance.shape) < chance

    length = np.array([domain.length for domain, _ in places])[place]
    middle = np.log(length)[:, None] + np.log([llm.verbosity for llm in LLMS]) + 0.2 * common[:, None]
    response = np.maximum(1, np.rint(np.exp(middle + 0.5 * rng.standard_normal(middle.shape)))).astype(np.int64)
    context = np.array([domain.context for domain, _ in places])[place]
    prompt = np.array([-(-len(text) // 4) for text in texts], dtype=np.int64) + context
    cost = prompt[:, None] * [llm.price_prompt / 1e6 for llm in LLMS] + response * [
        llm.price_response / 1e6 for llm in LLMS
    ]
    service = np.array([llm.startup for llm in LLMS]) + response / np.array([llm.rate for llm in LLMS])
    latency = service * np.exp(0.15 * rng.standard_normal(service.shape))

    n = len(LLMS)
    names = [(domain.name, subdomain) for domain, subdomain in places]
    return pl.DataFrame(
        {
            "query_id": np.repeat([f"q{number:06d}" for number in range(queries)], n),
            "query_text": np.repeat(texts, n),
            "domain": np.repeat([names[p][0] for p in place], n),
            "subdomain": np.repeat([names[p][1] for p in place], n),
            "llm": [llm.name for llm in LLMS] * queries,
            "quality": quality.ravel().astype(np.float32),
            "prompt_tokens": np.repeat(prompt, n).astype(np.int32),
            "response_tokens": response.ravel().astype(np.int32),
            "cost_usd": cost.ravel(),
            "latency_s": latency.ravel().astype(np.float32),
            "tokens_basis": TOKENS_BASIS,
            "cost_basis": "list_price",
            "source": "synthetic",
        }
    )


def _text(topics_known: tuple[str, ...], level: int, rng: np.random.Generator) -> str:
    """Write a query on some of a sub-domain's topics at a visible level of difficulty (0..4)."""
    topics = rng.choice(topics_known, size=TOPICS_PER_QUERY[level], replace=False)
    opening = OPENINGS[level][rng.integers(len(OPENINGS[level]))]
    conditions = rng.choice(CONDITIONS, size=CONDITIONS_PER_QUERY[level], replace=False)
    asker = f"I am {ASKERS[rng.integers(len(ASKERS))]} and this is for {PURPOSES[rng.integers(len(PURPOSES))]}."
    return " ".join([asker, opening.format(" together with ".join(topics)), *conditions])

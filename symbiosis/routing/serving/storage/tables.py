"""The tables of a store, alike in SQLite and PostgreSQL."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

FORMAT = "1"
"""Of the tables; a store of another one is refused."""

metadata = MetaData()
# SQLite counts up by itself in a column of exactly this type.
_Sequence = BigInteger().with_variant(Integer(), "sqlite")
_Real = Float(53)  # double precision in PostgreSQL

meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

decisions = Table(
    "decisions",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("at", _Real, nullable=False, index=True),
    Column("llm", Text, nullable=False),
    Column("propensity", _Real, nullable=False),
    Column("prompt_tokens", _Real, nullable=False),
    Column("cost_usd", _Real, nullable=False),
    Column("quality", _Real, nullable=False),
    Column("vector_type", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),
    Column("budget_usd", _Real),
    Column("router", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("served", Text),
    Column("policy", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("api_key", Text),
    Column("conversation", Text, index=True),
    Column("text_sha256", Text, nullable=False),
    Column("text", Text),
    Column("details", JSON(none_as_null=True)),
    Column("overhead_ms", _Real),
    Column("baseline_usd", _Real),
    sqlite_autoincrement=True,
)

feedback = Table(
    "feedback",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),  # the order of arrival
    Column("decision", Text, nullable=False, unique=True),
    Column("at", _Real, nullable=False, index=True),
    Column("quality", _Real),
    Column("response_tokens", _Real),
    Column("satisfied", Boolean),
    Column("source", Text, nullable=False),
    Column("idempotency_key", Text, unique=True),
    Column("lesson", BigInteger, unique=True),
    sqlite_autoincrement=True,
)

calls = Table(
    "calls",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("decision", Text),
    Column("attempt", Integer, nullable=False),
    Column("llm", Text, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("at", _Real, nullable=False, index=True),
    Column("status", Integer),
    Column("error", Text),
    Column("first_token_s", _Real),
    Column("total_s", _Real),
    Column("prompt_tokens", _Real),
    Column("cached_tokens", _Real),
    Column("response_tokens", _Real),
    Column("cost_usd", _Real),
    Column("streamed", Boolean, nullable=False),
    Column("api_key", Text),
    UniqueConstraint("decision", "attempt"),
    sqlite_autoincrement=True,
)

spend = Table(
    "spend",
    metadata,
    Column("api_key", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("usd", _Real, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", _Real, nullable=False),
    Column("digest", Text, nullable=False),
    Column("archive", LargeBinary, nullable=False),
)
"""Of the router, for gateways that share no folder. Stores of earlier releases get it when it is first needed."""

Index("feedback_not_learned", feedback.c.sequence, sqlite_where=feedback.c.lesson.is_(None),
      postgresql_where=feedback.c.lesson.is_(None))  # fmt: skip

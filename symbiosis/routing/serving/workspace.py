"""The router of a project's folder: trained by the pipeline, learning in ``.router/``, safe for several processes."""

import fcntl
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.learning.reference import Reference
from symbiosis.routing.learning.serving_state import ServingState, digest_of
from symbiosis.routing.learning.trained import Trained
from symbiosis.routing.model.router import MANIFEST, Router
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.policy.objectives import Deadline, Objective, TradeOff
from symbiosis.routing.queries.query_encoder import QueryEncoder
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.routing.serving.adoption import adopted, refusal, rolled_back
from symbiosis.routing.serving.retention import USUAL, Pruned, Retention, is_behind, prune
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import DEFAULTS, ServiceSettings
from symbiosis.routing.serving.snapshots import ROUTER, Origin, Snapshot, open_version, read_state, save
from symbiosis.routing.serving.upgrade import JOURNAL, take_over
from symbiosis.routing.serving.versions import DamagedVersion, Versions

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

STORE = "store.db"
TAIL = 20_000
"""Decisions since the newest version: beyond them the version is written anew, so that loading stays quick."""

DAYS = 30
"""Of each of them, the last version is kept."""
PRUNED_EVERY = 100
"""Versions, after which a program without a gateway deletes what the store need not keep."""


@dataclass(frozen=True)
class VersionInfo:
    """A saved version.

    Attributes
    ----------
    number
        Counts up.
    router
        Digest of the trained router that it grew from.
    lessons
        Feedback that it has learned from, and LLMs that came or went.
    llms
        Their names.
    current
        Whether it is the one that serves.
    """

    number: int
    router: str
    lessons: int
    current: bool


class Training(NamedTuple):
    """What is known of the training of the router that serves.

    Attributes
    ----------
    reference
        Summary of its queries; None: there is none, or its vectors are of another form than those that serve.
    fits_after
        Sequence of the last decision in the store whose vector is of another form.
    """

    reference: Reference | None = None
    fits_after: int = 0


class NotWritable(InputError):  # noqa: N818
    """The folder of the state cannot be written to."""


class _Opener:
    """Opens a store when it is first needed, and closes it when nobody needs it."""

    def __init__(self, address: str | None, folder: Path) -> None:
        self._address, self.folder = address, folder

    @cached_property
    def store(self) -> "Store":
        from symbiosis.routing.serving.store import Store

        store = Store.in_file(self.folder / STORE) if self._address is None else Store(self._address)
        self._finaliser = weakref.finalize(self, store.close)
        return store


def _shared(opener: _Opener, address: str, keep: int) -> Versions:
    """Return versions that lie in a named store; of one in the state folder, those of the folder."""
    from symbiosis.routing.serving.storage.shared_versions import SharedVersions, lies_in

    if lies_in(address, opener.folder):
        return Versions(opener.folder, keep=keep, days=DAYS)
    return SharedVersions(
        opener.folder,
        keep,
        DAYS,
        key=lambda: opener.store.key,
        published=lambda: opener.store.published,
        alone=lambda: opener.store.versions_lock(),
    )


class Workspace:
    """Routes, learns and keeps versions below a folder; starts from a trained router.

    Every method opens the state, does its work and saves what was learned; `service` keeps it open for many queries.
    A version is written when something was learned: feedback, an LLM that came or went, a newer trained router. What
    was merely asked stands in the store alone.

    Parameters
    ----------
    state
        Folder of the versions, and of the store if no other is named.
    router, encoder
        Folders of a trained router and its encoder. None: those of the champion, or ``models/router`` and
        ``models/encoder`` as the pipeline leaves them where nothing was promoted.
    keep
        Versions that stay, beside the last one of each of the last 30 days.
    settings
        Of the service.
    encode
        From a text to its vector (d,), in the place of the encoder.
    store
        Address of the store of decisions and feedback, see `symbiosis.routing.serving.store.Store`; None: ``store.db``
        in the state folder.
    retention
        How long the store keeps what.
    """

    def __init__(
        self,
        state: Path | str = Path(".router"),
        *,
        router: Path | str | None = None,
        encoder: Path | str | None = None,
        keep: int = 10,
        settings: ServiceSettings = DEFAULTS,
        encode: Callable[[str], np.ndarray] | None = None,
        store: str | None = None,
        retention: Retention = USUAL,
    ) -> None:
        self._retention = retention
        self._opener = _Opener(store, Path(state))
        self._versions = Versions(state, keep=keep, days=DAYS) if store is None else _shared(self._opener, store, keep)
        places = [None if place is None else Path(place) for place in (router, encoder)]
        self._trained_router = Trained(places[0], places[1])
        self._settings = settings
        self._encode = encode
        self._encoders: dict[VectorForm, QueryEncoder] = {}
        self._training: tuple[object, Training] | None = None
        self.notices: list[str] = []
        """What a user should know of the last call: a newer trained router was taken over, or could not be."""

    @property
    def store(self) -> "Store":
        """The store of decisions and feedback, opened when it is first needed."""
        return self._opener.store

    @contextmanager
    def service(self, objective: Objective | None = None, deadline: Deadline | None = None) -> Iterator[RoutingService]:
        """Open the service; what it has learned by the end is saved as a version. Other processes wait meanwhile.

        Parameters
        ----------
        objective
            None: the trade-off that the router was trained for.
        deadline
            On the time to the answer.

        Raises
        ------
        InputError
            There is no trained router, or a file of it or of the state is missing or damaged.
        """
        with self._alone():
            opened = self._open(objective, deadline)
            service = opened.service
            self._encoding(opened)
            before = service.lessons
            yield service
            if service.lessons != before:
                due = save(service, self._versions, opened.origin) % PRUNED_EVERY == 0
            else:
                due = self._keep_short(opened)
        if due:
            self.prune()

    def serving(self, objective: Objective | None = None, deadline: Deadline | None = None) -> RoutingService:
        """Return a service for a process that only decides, such as one of a gateway.

        It writes no decision by itself (`Decision.record` is what a store wants of it) and learns from no feedback,
        which it puts into the store. `symbiosis.routing.serving.learner.Learner` learns, and keeps it up to date.
        Processes that serve one version draw alike for a query.
        """
        with self._alone():
            opened = self._open(objective, deadline, serves_alone=False)
            opened.service.draws_by_query = True
            form = opened.origin.vectors
            if opened.service.encode is None and form is not None:
                opened.service.encode = self.encoder(form)
            return opened.service

    def learn(self) -> int:
        """Number the feedback in the store, learn what is new and save it; return the number of the last lesson.

        A newer trained router is taken over.
        """
        with self._alone():
            opened = self._open(None, None)
            service = opened.service
            before = self._saved_lessons()
            service.learn_new()
            if service.lessons != before:
                save(service, self._versions, opened.origin)
            else:
                self._keep_short(opened)
            return service.learned

    def prune(self, retention: Retention | None = None, *, now: float | None = None) -> Pruned:
        """Delete from the store what need not be kept; return how much.

        Parameters
        ----------
        retention
            What is kept; None: what the workspace was made with.
        now
            Seconds since the epoch; None: by the clock.
        """
        kept, at = retention or self._retention, time.time() if now is None else now
        if is_behind(self.store, self._versions, kept, at):
            with self._alone():
                opened = self._open(None, None)
                save(opened.service, self._versions, opened.origin, opened.service.signature[1] or None)
        return prune(self.store, self._versions, kept, at)

    def _saved_lessons(self) -> int:
        return read_state(self._versions.open()).lessons if self._versions.numbers() else 0

    def history(self) -> "Store":
        """Return the store, with what an earlier release has left in the folder."""
        if (self._versions.folder / JOURNAL).exists():
            with self._alone():
                pass
        return self.store

    def newest(self) -> int:
        """Return the number of the newest version, 0 if nothing was saved; reads no file."""
        return self._versions.newest()

    def version(self, number: int) -> Snapshot:
        """Return a saved version as it was, for `symbiosis.routing.serving.service.RoutingService.take_over`.

        0 is the trained router, with what the store has to teach it.
        """
        with self._alone():
            if number == 0:
                return self._open(None, None, serves_alone=False)
            opened = self._load(None, None, number)
            opened.service.signature = opened.origin.router, number
            return opened

    def trained(self) -> str | None:
        """Return the digest of the trained router that would be started from, None if there is none."""
        folder = self._trained_router.folder
        return digest_of(folder) if (folder / MANIFEST).is_file() else None

    def trained_at(self) -> object:
        """Return what changes when the trained router does; reads no file."""
        return self._trained_router.stamp()

    def training(self) -> "Training":
        """Return what later queries are compared with; takes no newer router over."""
        newest = self.newest()
        present = newest, self.trained_at()
        if self._training is None or self._training[0] != present:
            origin = read_state(self._versions.open(newest)).origin if newest else None
            reference, folder = None, self._trained_router.folder
            if (folder / MANIFEST).is_file():
                form = ServingState.load(folder).vectors
                if origin is None or origin.vectors == form:
                    reference = Reference.load(folder)
            self._training = present, Training(reference, origin.fits_after if origin else 0)
        return self._training[1]

    def route(
        self,
        text: str,
        objective: Objective | None = None,
        deadline: Deadline | None = None,
        *,
        prompt_tokens: float | np.ndarray | None = None,
    ) -> Decision:
        """Decide which LLM answers a query; see `symbiosis.routing.serving.service.RoutingService.route`.

        The text is encoded before other processes have to wait.
        """
        return self._decided([text], objective, deadline, prompt_tokens)[0]

    def route_many(
        self, texts: Sequence[str], objective: Objective | None = None, deadline: Deadline | None = None
    ) -> list[Decision]:
        """Decide many queries at one opening, each as if it came alone: nothing says that they are sent at once."""
        return self._decided(texts, objective, deadline, alone=True)

    def _decided(
        self,
        texts: Sequence[str],
        objective: Objective | None,
        deadline: Deadline | None,
        prompt_tokens: float | np.ndarray | None = None,
        alone: bool = False,
    ) -> list[Decision]:
        """Encode texts, then keep other processes out while they are decided; `alone`: without waits."""
        form: VectorForm | None = self._form()
        vectors: list[np.ndarray | None] = [None] * len(texts)
        for _ in range(3):
            if self._encode is None and form is not None:
                vectors = [self.encoder(form)(text) for text in texts]
            with self._alone():
                opened = self._open(objective, deadline)
                if self._encode is not None or opened.origin.vectors in (form, None):
                    service = opened.service
                    waits = np.zeros(len(service.router.llms)) if alone else None
                    decisions = [
                        service.route(text, prompt_tokens, waits, vector)
                        for text, vector in zip(texts, vectors, strict=True)
                    ]
                    due = self._keep_short(opened)
                    break
                form = opened.origin.vectors
        else:
            raise InputError(f"the router in {self._versions.folder} changes faster than a text is encoded: try again")
        if due:
            self.prune()
        return decisions

    def _keep_short(self, opened: Snapshot) -> bool:
        """Write the newest version anew where much has been asked since; tell whether that was so."""
        long = opened.service.position - opened.position > TAIL
        if long:
            save(opened.service, self._versions, opened.origin, opened.service.signature[1] or None)
        return long

    def feedback(
        self,
        decision_id: str,
        *,
        quality: float | None = None,
        response_tokens: float | None = None,
        satisfied: bool | None = None,
    ) -> bool:
        """Learn how an answer was; see `symbiosis.routing.serving.service.RoutingService.feedback`."""
        with self.service() as service:
            return service.feedback(decision_id, quality=quality, response_tokens=response_tokens, satisfied=satisfied)

    def add_llm(
        self,
        name: str,
        *,
        price_prompt: float | None,
        price_response: float | None,
        startup_s: float = 0.5,
        tokens_per_s: float = 60.0,
        texts: list[str] | None = None,
        quality: np.ndarray | None = None,
        response_tokens: np.ndarray | None = None,
    ) -> tuple[str, ...]:
        """Add an LLM, and return the names of all.

        Parameters
        ----------
        name, price_prompt, price_response, startup_s, tokens_per_s
            See `symbiosis.routing.data.outcomes.Llms`: USD per token, seconds, tokens a second.
        texts, quality, response_tokens
            Its answers to m probe queries, all or none of them.
        """
        with self.service() as service:
            vectors = None
            if texts is not None:
                encode = service.encode
                if encode is None:
                    raise InputError("probe texts were given to a router without an encoder: give `encode`")
                vectors = np.array([encode(text) for text in texts])
            service.add_llm(
                name,
                price_prompt=price_prompt,
                price_response=price_response,
                startup_s=startup_s,
                tokens_per_s=tokens_per_s,
                vectors=vectors,
                quality=quality,
                response_tokens=response_tokens,
            )
            return service.router.llms.names

    def remove_llm(self, name: str) -> tuple[str, ...]:
        """Remove an LLM, and return the names of the others."""
        with self.service() as service:
            service.remove_llm(name)
            return service.router.llms.names

    def llms(self) -> Llms:
        """Return the LLMs that are chosen from; in a folder that cannot be written to, as they were last saved."""
        try:
            with self.service() as service:
                return service.router.llms
        except NotWritable:
            saved = self._versions.open() / ROUTER if self._versions.numbers() else self._trained_router.folder
            return Router.load(saved).llms

    def versions(self) -> list[VersionInfo]:
        """Return the saved versions that are whole, oldest first; none before anything was learned."""
        if (self._versions.folder / JOURNAL).exists():
            self.history()
        numbers = self._versions.whole()
        states = [read_state(self._versions.open(number)) for number in numbers]
        return [
            VersionInfo(number, state.origin.router, state.lessons, number == numbers[-1])
            for number, state in zip(numbers, states, strict=True)
        ]

    def rollback(self, version: int) -> int:
        """Go on from an earlier version, 0 being the trained router; return the number under which it is saved.

        What was learned since is forgotten. Decisions and their feedback are not: none is rewarded twice.
        """
        with self._alone():
            if not self._versions.numbers():
                raise InputError(f"{self._versions.folder} holds no saved state: there is nothing to go back from")
            earlier = self._trained(None, None, logged=0) if version == 0 else self._load(None, None, version)
            try:
                present = read_state(self._versions.open())
                replaced, learned = present.origin.router, present.logged or 0
            except InputError:  # going back is what a user does about a damaged version
                replaced, learned = None, self.store.news()[0]
            back = rolled_back(earlier, learned, replaced)
            return save(back.service, self._versions, back.origin)

    def adopt(self) -> int:
        """Start anew from the trained router, forgetting what was learned; return the version's number."""
        with self._alone():
            fresh = self._trained(None, None)
            return save(fresh.service, self._versions, fresh.origin)

    def encoder(self, form: VectorForm) -> Callable[[str], np.ndarray]:
        """Return the encoder for a form of vectors, loaded once.

        Raises
        ------
        InputError
            There is none for it.
        """
        if self._encode is not None:
            return self._encode
        if form not in self._encoders:
            self._encoders[form] = self._loaded(form)
        return self._encoders[form]

    def _loaded(self, form: VectorForm) -> QueryEncoder:
        likeliest, *others = self._trained_router.encoders()
        try:
            return QueryEncoder.load(likeliest, form)
        except InputError:
            for place in others:
                with suppress(InputError):
                    return QueryEncoder.load(place, form)
            raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from the folder meanwhile."""
        try:
            self._versions.folder.mkdir(parents=True, exist_ok=True)
            lock = (self._versions.folder / ".lock").open("w")
        except OSError as error:
            reason = f"{self._versions.folder} cannot be written to ({error.strerror})"
            raise NotWritable(f"{reason}: name another folder for the state, as by --state") from None
        with lock as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self._versions.alone():
                if (self._versions.folder / JOURNAL).exists():
                    take_over(self._versions, self.store)
                yield

    def _form(self) -> VectorForm | None:
        """Form of the vectors that are probably needed: of the trained router, or of the state without one."""
        router = self._trained_router.folder
        if (router / MANIFEST).is_file():
            return ServingState.load(router).vectors
        if numbers := self._versions.numbers():
            return read_state(self._versions.open(numbers[-1])).origin.vectors
        raise InputError(f"there is no trained router in {router}: run `make repro`")

    def _encoding(self, opened: Snapshot) -> None:
        """Let a service encode texts, with an encoder that is loaded when it is first needed."""
        form = opened.origin.vectors
        if opened.service.encode is None and form is not None:
            opened.service.encode = lambda text: self.encoder(form)(text)

    def _load(
        self,
        objective: Objective | None,
        deadline: Deadline | None,
        version: int | None = None,
        *,
        serves_alone: bool = True,
    ) -> Snapshot:
        return open_version(
            self._versions,
            objective,
            deadline,
            version=version,
            encode=self._encode,
            settings=self._settings,
            store=self.store,
            learns=serves_alone,
            writes=serves_alone,
        )

    def _trained(
        self,
        objective: Objective | None,
        deadline: Deadline | None,
        logged: int | None = None,
        *,
        serves_alone: bool = True,
        router: Path | None = None,
    ) -> Snapshot:
        """Return a new service from the trained router.

        Parameters
        ----------
        objective, deadline, serves_alone
            Of the service.
        router
            Where the router lies, if that was looked up.
        logged
            0: it has still to take in what the store holds; None: nothing of that concerns it.
        """
        router = self._trained_router.folder if router is None else router
        if not (router / MANIFEST).is_file():
            raise InputError(f"there is no trained router in {router}: run `make repro`")
        known = ServingState.load(router)
        service = RoutingService(
            Router.load(router),
            TradeOff(known.trade_off) if objective is None else objective,
            deadline,
            encode=self._encode,
            experience=known.experience,
            settings=self._settings,
            store=self.store,
            learns=serves_alone,
            writes=serves_alone,
        )
        origin = Origin(
            router=digest_of(router), vectors=known.vectors, trade_off=known.trade_off, since=service.learned
        )
        service.fits_after = self._fits_after(known.vectors, service.position)
        if known.trained_on.stores:
            service.trained_on = known.trained_on.of_store(self.store.key)
        if logged is not None:
            service.learned, service.position = logged, 0
        return Snapshot(service, origin, service.learned, service.position)

    def _fits_after(self, form: VectorForm, position: int) -> int:
        """Up to which decision in the store vectors are of another form than this one."""
        try:
            present = read_state(self._versions.open()).origin if self._versions.numbers() else None
        except InputError:
            present = None
        if present is None or present.vectors is None:
            return 0
        return present.fits_after if present.vectors == form else position

    def _open(self, objective: Objective | None, deadline: Deadline | None, *, serves_alone: bool = True) -> Snapshot:
        """Open the newest version, or start; take over a newer trained router, or tell why not."""
        opened = self._newest(objective, deadline, serves_alone)
        opened.service.signature = opened.origin.router, self.newest()
        opened.service.form = opened.origin.vectors
        if opened.origin.router and opened.origin.vectors is not None:
            self.store.note_form(opened.origin.router, opened.origin.vectors.model_dump_json())
        return opened

    def _before_damage(self, objective: Objective | None, deadline: Deadline | None, serves_alone: bool) -> Snapshot:
        """Go on from the newest version that is whole, with what the store holds since, as a version of its own.

        Raises
        ------
        InputError
            There is none.
        """
        damaged, whole = self.newest(), self._versions.whole()
        if not whole:
            self._versions.open()
        opened = self._load(objective, deadline, whole[-1], serves_alone=serves_alone)
        opened.service.catch_up()
        number = save(opened.service, self._versions, opened.origin)
        self.notices.append(
            f"version {damaged} in {self._versions.folder} is damaged: version {whole[-1]} goes on as version "
            f"{number}, with the feedback that the store holds since; LLMs that "
            "were added or removed since are not known to it"
        )
        return opened

    def _newest(self, objective: Objective | None, deadline: Deadline | None, serves_alone: bool) -> Snapshot:
        self.notices = [notice] if (notice := self._trained_router.notice()) else []
        if not self._versions.numbers():
            fresh = self._trained(objective, deadline, logged=0, serves_alone=serves_alone)
            fresh.service.catch_up()
            fresh = replace(fresh, origin=fresh.origin.model_copy(update={"since": 0}))
            form = fresh.origin.vectors
            if form is not None and any(other != form.model_dump_json() for other in self.store.forms().values()):
                # Decisions with other vectors teach this router nothing; the version tells how far they go.
                fresh.service.fits_after = self.store.position()
                save(fresh.service, self._versions, fresh.origin)
            return fresh
        try:
            opened = self._load(objective, deadline, serves_alone=serves_alone)
        except DamagedVersion:
            opened = self._before_damage(objective, deadline, serves_alone)
        router = self._trained_router.folder
        if not (router / MANIFEST).is_file():
            return opened
        digest = digest_of(router)
        if digest in (opened.origin.router, opened.origin.declined):
            return opened
        fresh = self._trained(objective, deadline, serves_alone=serves_alone, router=router)
        reason = refusal(opened, fresh)
        if reason is not None:
            self.notices.append(
                f"the newer router in {router} ({digest}) is not taken over: {reason}; "
                f"version {self.newest()} goes on. To start from the newer one, adopt it"
            )
            return opened
        fresh = adopted(opened, fresh)
        number = save(fresh.service, self._versions, fresh.origin)
        trained_on = int(fresh.service.trained_on[: fresh.service.learned + 1].sum())
        self.notices.append(
            f"{router} has a newer router ({digest}): taken over as version {number}, "
            f"with {fresh.service.lessons} lessons kept"
            + (f", beside {trained_on} that it was trained on" if trained_on else "")
        )
        return fresh

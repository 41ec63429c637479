"""The task graph, read from ``dvc.yaml`` by DVC itself, templates and matrix stages resolved."""

from collections.abc import Sequence
from pathlib import Path

from symbiosis.core.errors import InputError


def stage_graph(root: Path) -> dict[str, tuple[str, ...]]:
    """Return every stage with the stages whose outputs it needs, in topological order.

    Raises
    ------
    InputError
        There is no pipeline here, or DVC refuses ``dvc.yaml``.
    """
    import networkx as nx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            graph = nx.relabel_nodes(repo.index.graph, lambda stage: stage.name)
            if not graph:
                raise InputError(f"there are no stages in {root}/dvc.yaml")
            position = {stage: number for number, stage in enumerate(graph)}  # the order of dvc.yaml
            order = nx.lexicographical_topological_sort(graph.reverse(), key=position.__getitem__)
            return {stage: tuple(sorted(graph.successors(stage))) for stage in order}
    except DvcException as error:
        raise InputError(f"DVC cannot read the pipeline in {root}: {error}") from error


def select(graph: dict[str, tuple[str, ...]], targets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the targets with everything upstream of them, or the whole graph if there are no targets.

    A target is a stage, or a matrix stage, which stands for all its members.

    Raises
    ------
    InputError
        A target is no stage.
    """
    waiting = []
    for target in targets:
        members = [stage for stage in graph if target in (stage, stage.partition("@")[0])]
        if not members:
            raise InputError(f"unknown stage `{target}`; the stages are {', '.join(graph)}")
        waiting += members
    wanted = set() if targets else set(graph)
    while waiting:
        stage = waiting.pop()
        if stage not in wanted:
            wanted.add(stage)
            waiting.extend(graph[stage])
    return {stage: upstream for stage, upstream in graph.items() if stage in wanted}

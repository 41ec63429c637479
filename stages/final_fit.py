"""Make the folder that serves: the measured model, or one fitted to all interactions.

Run it:  python -m stages.final_fit
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from symbiosis.core.artifacts import staged
from symbiosis.core.fingerprint import fingerprint
from symbiosis.core.layout import RECOMMENDER
from symbiosis.core.params import read_document
from symbiosis.core.stage import run
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.final_fit import INPUTS, FinalFitBlocks, copy_measured, describe, refit
from symbiosis.recommender.training.launching import train_together
from symbiosis.recommender.training.params import FinalFitParams
from symbiosis.recommender.training.process_group import ProcessGroup
from symbiosis.tracking.live import live_run

ROOT = Path()


def work(params: FinalFitParams) -> None:
    """Read all that a recommendation needs; write it as a folder of its own, the model as params say."""
    if params.data == "train":
        with staged(RECOMMENDER) as (folder,):
            folder.mkdir()
            copy_measured(ROOT, folder)
            describe(folder, ROOT, params.data)
        print("the measured model")
        return
    document = read_document()
    blocks = FinalFitBlocks.model_validate({name: document.get(name) for name in FinalFitBlocks.model_fields})
    train_together("stages.final_fit", params, blocks.finetune, partial(train, blocks))


def train(blocks: FinalFitBlocks, group: ProcessGroup) -> None:
    """Fit the model to all interactions in one process of those that train; the first one writes."""
    identity = fingerprint(__file__, blocks, INPUTS)
    checkpoints = Checkpoints.of_stage("final_fit", identity, blocks.finetune.checkpoint_seconds)
    with live_run("final-fit", identity) as live, ExitStack() as stack:
        folder = stack.enter_context(staged(RECOMMENDER))[0] if group.leads else Path()
        folder = group.from_first(folder)
        if group.leads:
            folder.mkdir()
        curve = refit(ROOT, folder, blocks, identity, checkpoints, live.log, group)
        if not group.leads:
            return
        describe(folder, ROOT, "all")
    checkpoints.clear()
    losses = f"training loss {curve[0]['loss']:.4f} to {curve[-1]['loss']:.4f}" if curve else "no epoch of training"
    print(f"fitted to all interactions, never to be evaluated: {losses}")


if __name__ == "__main__":
    run("final_fit", FinalFitParams, work)

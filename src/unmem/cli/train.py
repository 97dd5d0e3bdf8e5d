"""`unmem train`: an original model, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from unmem.cli.early import check_early
from unmem.cli.options import DataOptions, OutputOptions, RecipeOptions, settings


def train(*, output: OutputOptions, data: DataOptions = DataOptions(), recipe: RecipeOptions = RecipeOptions()) -> None:
    """Train a model and save it with its settings.

    Writes original.safetensors, trace.npz, result.json and config.yaml to the run folder. The trace holds early
    predictions of each training example; unmem forget uses them as targets.
    """
    check_early(output, data, recipe)
    from unmem.cli.console import console
    from unmem.cli.session import Session, log_of
    from unmem.store import TRACE, RunFolder
    from unmem.targets import TraceRecorder

    with RunFolder(output.out, force=output.force) as folder, log_of(output, "train") as log:
        session = Session.open("train", settings(data, recipe), data, log=log, folder=folder, replaces=folder.path)
        recorder = TraceRecorder(session.data.holdout)
        original = session.original(recipe, seed=data.seed, recorders={"trace": recorder})
        described = session.describe(original)
        session.save_models(folder, original)
        if recorder.recorded:
            folder.file(TRACE, replace(recorder.trace, forgotten=session.before.deleted).save)
        session.finish(folder, {"original": described})
    reached = "   ".join(f"{name} {value:.1%}" for name, value in described["accuracy"].items() if value is not None)
    console.print(f"  accuracy  {reached}")
    console.print(f"  Model: {folder.path / 'original.safetensors'}", soft_wrap=True)

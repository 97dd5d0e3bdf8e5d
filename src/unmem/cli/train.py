"""`unmem train`: an original model, and nothing else."""

from __future__ import annotations

from unmem.cli.early import check_early
from unmem.cli.options import DataOptions, OutputOptions, RecipeOptions, RunOptions, settings


def train(
    *,
    output: OutputOptions,
    data: DataOptions = DataOptions(),
    run: RunOptions = RunOptions(),
    recipe: RecipeOptions = RecipeOptions(),
) -> None:
    """Train a model and save it with its settings.

    Writes original.safetensors, trace.npz, result.json and config.yaml to the run folder. The trace holds early
    predictions of each training example; unmem forget uses them as targets.
    """
    check_early(output, data, run, recipe)
    from unmem.cli.console import console
    from unmem.cli.original import recipe_of, train_original
    from unmem.cli.saving import described_original, finish, save_original, save_trace
    from unmem.cli.session import writing
    from unmem.targets import TraceRecorder

    asked = settings(data, run, recipe)
    with writing("train", asked, output, data, run, keep_deleted_out=True) as (session, folder):
        recorder = TraceRecorder(session.data.holdout)
        original = train_original(session, recipe_of(session, recipe), {"trace": recorder})
        described = described_original(session, original)
        save_original(session, folder, original)
        save_trace(session, folder, recorder)
        finish(session, folder, {"original": described})
    reached = "   ".join(f"{name} {value:.1%}" for name, value in described["accuracy"].items() if value is not None)
    console.print(f"  accuracy  {reached}")
    console.print(f"  Model: {folder.path / 'original.safetensors'}", soft_wrap=True)

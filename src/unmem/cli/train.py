"""`unmem train`: an original model, and nothing else."""

from __future__ import annotations

from unmem.cli.options import DataOptions, OutputOptions, RecipeOptions, settings


def train(*, output: OutputOptions, data: DataOptions = DataOptions(), recipe: RecipeOptions = RecipeOptions()) -> None:
    """Train a model, and keep it with what made it.

    Writes original.safetensors, result.json and config.yaml to the run folder.
    """
    from unmem.cli.console import console
    from unmem.cli.session import Session, log_of
    from unmem.store import RunFolder

    with RunFolder(output.out, force=output.force) as folder, log_of(output, "train") as log:
        session = Session.open("train", settings(data, recipe), data, log=log)
        original = session.original(recipe, seed=data.seed)
        described = session.describe(original)
        session.save_models(folder, original)
        session.finish(folder, {"original": described})
    reached = "   ".join(f"{name} {value:.1%}" for name, value in described["accuracy"].items())
    console.print(f"  accuracy  {reached}")
    console.print(f"  Model: {folder.path / 'original.safetensors'}", soft_wrap=True)

"""`unmem train`: an original model, and nothing else."""

from __future__ import annotations

from unmem.cli.options import DataOptions, OutputOptions, RecipeOptions, settings


def train(*, output: OutputOptions, data: DataOptions = DataOptions(), recipe: RecipeOptions = RecipeOptions()) -> None:
    """Train a model, and keep it with what made it.

    Writes original.safetensors, result.json and config.yaml to the run folder.
    """
    from unmem import models
    from unmem.cli.console import console
    from unmem.cli.session import Session, recipe_settings
    from unmem.store import RunFolder

    with RunFolder(output.out, force=output.force) as folder:
        session = Session.open("train", settings(data, recipe), data)
        original = session.original(recipe, seed=data.seed)
        reached = session.accuracies(original.model)
        folder.file(
            "original.safetensors", lambda path: models.save(original.model, session.card(original.recipe), path)
        )
        result = {
            "recipe": recipe_settings(original.recipe),
            "original": {"seconds": original.seconds, "accuracy": reached},
        }
        session.finish(folder, result)
    console.print("  accuracy  " + "   ".join(f"{name} {value:.1%}" for name, value in reached.items()))
    console.print(f"  written to {folder.path}")

"""`unmem score`: how memorized each training example is."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, settings


def score(
    *,
    output: OutputOptions,
    method: Annotated[str, Parameter(group="Scores")] = "confidence,max-confidence,entropy,accuracy",
    data: DataOptions = DataOptions(),
    model: ModelOptions = ModelOptions(),
) -> None:
    """Score how memorized each training example is; larger = more memorized.

    Writes scores.parquet (id, label, a column per score), original.safetensors and report.html to the run folder.

    Parameters
    ----------
    method
        Scores, separated by commas. All four are learning events, which need the training run.
    """
    import math

    from unmem import models
    from unmem.cli.console import console
    from unmem.cli.request import ScoreSource
    from unmem.cli.session import Session, recipe_settings
    from unmem.memorization import LearningEvents, save_scores
    from unmem.report import Report
    from unmem.store import RunFolder

    names = list(dict.fromkeys(name.strip() for name in method.split(",") if name.strip()))
    events = LearningEvents()
    source = ScoreSource(None, trained_here=model.model is None, events=events)
    for name in names:
        source.check(name, option="--method")
    with RunFolder(output.out, force=output.force) as folder:
        session = Session.open("score", settings(data, model) | {"method": names}, data)
        original = session.original(model, seed=data.seed, observers=[events])
        scores = [source.get(name) for name in names]
        labels = session.data.train.labels.cpu().numpy()
        found = {s.name: s.auroc(session.data.flipped) for s in scores}
        folder.file(
            "original.safetensors", lambda path: models.save(original.model, session.card(original.recipe), path)
        )
        folder.file("scores.parquet", lambda path: save_scores(scores, labels, path))
        report = Report(
            title=f"How memorized are {len(session.data.train):,} examples of {session.data.name}?",
            scores=scores,
            flipped=session.data.flipped,
            facts=session.facts(original.recipe),
        )
        folder.text("report.html", report.html())
        result = {
            "recipe": recipe_settings(original.recipe),
            "original": {"seconds": original.seconds, "accuracy": session.accuracies(original.model)},
            "scores": {
                # All learning events are watched together, during the training of the original.
                s.name: {"seconds": events.seconds, "cost": events.seconds / (original.seconds or 1)}
                | ({} if math.isnan(found[s.name]) else {"auroc_flipped": found[s.name]})
                for s in scores
            },
        }
        session.finish(folder, result)
    if len(session.data.flipped):
        for name, value in found.items():
            console.print(f"  {name:<16}finds the flipped labels with AUROC {value:.3f}")
    console.print(f"  written to {folder.path}")

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
    from unmem.cli.console import console
    from unmem.cli.request import ScoreSource
    from unmem.cli.session import Session
    from unmem.memorization import LearningEvents
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
        scores = [events.scores(name) for name in names]
        described = session.describe_events(events, scores, original)
        report = Report(
            title=f"How memorized are {len(session.data.train):,} examples of {session.data.name}?",
            scores=scores,
            flipped=session.data.flipped,
            facts=session.facts(original.recipe),
        )
        session.save_models(folder, original)
        session.save_scores(folder, scores)
        folder.text("report.html", report.html())
        session.finish(folder, {"original": session.describe(original), "scores": described})
    for name, entry in described.items():
        if "auroc_flipped" in entry:
            console.print(f"  {name:<16}finds the flipped labels with AUROC {entry['auroc_flipped']:.3f}")
    console.print(f"  Report: {folder.path / 'report.html'}", soft_wrap=True)

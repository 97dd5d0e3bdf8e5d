"""`unmem bench`: run a benchmark and test the claims about it."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Group, Parameter

from unmem.cli.early import check_early
from unmem.cli.options import Flag, OutputOptions, RunOptions

_BENCH = Group("Benchmark", sort_key=0)


def bench(
    preset: Annotated[str, Parameter(name="--preset", group=_BENCH)],
    *,
    output: OutputOptions,
    size: Annotated[Literal["tiny", "small", "paper"], Parameter(group=_BENCH)] = "small",
    plan: Annotated[Flag, Parameter(group=_BENCH)] = False,
    run: RunOptions = RunOptions(),
) -> None:
    """Run a benchmark on real data: tables and claims with their figures.

    Writes result.json, plan.yaml and the tables as Markdown, CSV and LaTeX to the run folder. A stopped run continues
    when the same command is run again.

    Parameters
    ----------
    preset
        proxies: how faithful each score is to memorization, and its cost. unlearning: which method comes nearest to
        retraining, and whether refinement helps. continual: requests in a row. uses: privacy, mislabelled and poisoned
        data. Or a .yaml file with a plan of your own.
    size
        tiny: two minutes or less. small: an hour or two on two cores. paper: the data sets and networks of the papers.
    plan
        Print the plan and run nothing.
    """
    check_early(output, run)
    from unmem.bench.presets import Preset, all_tables, write_tables
    from unmem.bench.work import Work
    from unmem.cli.console import console, stage, warn
    from unmem.cli.fitting import Fitted
    from unmem.data import pick_device
    from unmem.executors import check_executor
    from unmem.store import RunFolder

    chosen = Preset.read(preset, size)
    text = _yaml(chosen.name, dict(chosen.plain), size)
    if plan:
        for line in text.splitlines():
            console.print(line, soft_wrap=True)
        return
    check_executor(run.executor, field="--executor")
    with RunFolder(output.out, force=output.force) as folder:
        with stage(f"Benchmark {chosen.name}, {size}") as bar:
            work = Work(
                folder.members,
                run.executor,
                run.workers,
                pick_device(run.device),
                on_progress=lambda _what, done, total: bar.on_member(done, total),
                on_warning=warn,
            )
            found = chosen.run(work)
        tables = all_tables(found)
        folder.text("plan.yaml", text)
        folder.file("tables", lambda path: write_tables(path, tables))
        folder.json("result.json", chosen.to_dict(size, found))
    for name, table in found.tables.items():
        console.print()
        console.print(f"  {name}")
        console.print(Fitted.of(table))
    counts = {verdict: sum(one.verdict == verdict for one in found.claims) for verdict in _VERDICTS}
    console.print()
    console.print("  Claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    console.print(f"  Tables: {folder.path / 'tables'}", soft_wrap=True)


_VERDICTS = ("holds", "does not hold", "not seen at this size")


def _yaml(preset: str, plan: dict[str, object], size: str) -> str:
    """The plan with one size, as a file that `unmem bench` reads."""
    import yaml

    return yaml.safe_dump({"preset": preset, "sizes": {size: plan}}, sort_keys=False, allow_unicode=True)

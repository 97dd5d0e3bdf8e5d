"""`unmem audit`: measure what an unlearned model still knows of the examples that it should have forgotten."""

from __future__ import annotations

from unmem.cli.annex import check_annex
from unmem.cli.early import check_early
from unmem.cli.options import DataOptions, OutputOptions, RecipeOptions, RunOptions, check_reference
from unmem.cli.request_options import RETRAIN, AuditOptions


def audit(
    *,
    output: OutputOptions,
    options: AuditOptions,
    data: DataOptions = DataOptions(),
    run: RunOptions = RunOptions(),
    recipe: RecipeOptions = RecipeOptions(),
) -> None:
    """Measure what an unlearned model still knows about its forget set, and what this run could have detected.

    Writes result.json and report.html to the run folder, with aggregates only: no ids, inputs or labels.
    """
    check_early(output, options, data, run, recipe)
    check_annex(options.annex, force=output.force)
    if options.reference == RETRAIN:
        check_reference(options.reference_seeds)
    from unmem.cli.auditing import run_audit

    run_audit(output, options, data, run, recipe)

"""`unmem forget`: make a model forget some of its training examples."""

from __future__ import annotations

from unmem.cli.annex import check_annex, write_annex
from unmem.cli.early import check_early, check_methods, check_used
from unmem.cli.faults import step
from unmem.cli.options import DataOptions, ModelOptions, OutputOptions, RunOptions, check_reference, settings
from unmem.cli.request_options import RequestOptions


def forget(
    *,
    output: OutputOptions,
    request: RequestOptions = RequestOptions(),
    data: DataOptions = DataOptions(),
    run: RunOptions = RunOptions(),
    model: ModelOptions = ModelOptions(),
) -> int:
    """Make a model forget some of its training examples.

    Writes unlearned.safetensors, original.safetensors, result.json and report.html to the run folder.
    """
    check_early(output, request, data, run, model)
    check_methods([request.method])
    check_used(request)
    check_annex(request.annex, force=output.force)
    if request.reference == "retrain":
        check_reference(request.reference_seeds)
    from unmem.cli.forget_result import Result
    from unmem.cli.forgetting import Asked, Forgetting
    from unmem.cli.plan import print_plan
    from unmem.cli.session import Session, writing

    asked = Asked.read(request, model)
    kept = settings(data, run, model, request) | {"steps": asked.steps or None, "score": asked.divided_by}
    if request.plan:
        print_plan(Session.open("forget", kept, data, run), asked)
        return 0
    with writing("forget", kept, output, data, run) as (session, folder):
        forgetting = Forgetting.prepare(session, asked)
        result = Result.measure(forgetting, forgetting.unlearn(), folder)
        left = result.save(folder)
        folder.ready()
        with step("delete the forgotten examples from the files of the request"):
            result.erasure.erase(folder.path)
    if request.annex is not None:
        write_annex(request.annex, result.annex())
    result.print(folder, left)
    return result.exit_code

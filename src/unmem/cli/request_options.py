"""The options of `unmem forget` and `unmem audit`. Imports nothing heavy: `--help` must answer at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from unmem.cli.options import Flag, SelectOptions

_REQUEST = Group("Request", sort_key=0)
_AUDIT = Group("Audit", sort_key=0)
RETRAIN, NONE = "retrain", "none"


@Parameter(name="*", group=_REQUEST)
@dataclass(frozen=True, kw_only=True)
class RequestOptions(SelectOptions):
    """What to forget and which method to use."""

    top: str | None = None
    "Instead of a file: SCORE:N selects the N most memorized examples by a score, such as confidence:50."
    method: str = "auto"
    """auto, matching, rum, fine-tune, l1-sparse, neggrad, neggrad+, scrub, random-label, salun, influence, bad-teacher,
    ssd, retrain or nothing. auto chooses matching with the best available targets, or retrain if retraining costs at
    most twice as much; with --steps or --score it chooses rum."""
    steps: str | None = None
    """For rum: one method per memorization group, from least to most memorized, separated by commas. Default:
    nothing,fine-tune,salun."""
    score: str | None = None
    """For rum: the score that divides the request into memorization groups. Default: confidence if the original is
    trained in this run, else holdout."""
    scores: Path | None = None
    "A scores.parquet from unmem score. Default: compute the scores in this run."
    targets: Literal["auto", "teacher", "trace", "crossfit", "ensemble"] = "auto"
    """For matching and --tune: the source of predictions by models that were not trained on an example. teacher trains
    a model briefly on the retain set. auto: ensemble members, cross-fit or trace if one is given and good enough for
    this request, else a teacher."""
    trace: Path | None = None
    """A trace.npz from unmem train, recorded while --model was trained. Default: trace.npz in the model's folder.
    Predictions for the forgotten examples are moved from it to the folder private in --out."""
    crossfit: Path | None = None
    """A crossfit.npz from unmem prepare. Predictions for the forgotten examples are moved from it to the folder private
    in --out."""
    members: Path | None = None
    "Folder with the ensemble members of unmem score --method feldman (or ensemble) --work, as a source of targets."
    tune: Flag = False
    "Search for the strength and learning rate of the method that match the out-of-sample forecast, without retraining."
    budget: float | None = None
    "With --tune: the maximum cost of the search, in trainings of the original. Default: five runs of the method."
    copies: Literal["accept", "include", "stop"] = "accept"
    """What to do about near-duplicates of forget examples in the retain set, which preserve their influence. accept:
    continue with a warning. include: add them to the request. stop: end with an error."""
    plan: Flag = False
    """Show the steps, their sizes, the estimated time, and alternatives with their costs; do not run or write
    anything."""
    set: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True)] = ()
    """Parameters of a method: FIELD=VALUE, or METHOD.FIELD=VALUE for a step of rum. Repeatable. All that train:
    epochs, lr, schedule (cosine, linear, constant), batchnorm (recompute, keep). neggrad+: alpha. l1-sparse: gamma.
    scrub: max_epochs, gamma, beta, temperature. salun: share. bad-teacher: retain_share. influence: matrix (fisher,
    gauss-newton), damping, scale, trust, samples, iterations. ssd: a, b. matching: form (log-odds, kl), weight, adapt,
    forget_share. rum: order, pending, thresholds."""
    reference: Literal["none", "retrain"] = "none"
    "retrain: also train models from scratch without the forget set and compare with them (ToW, ToW-MIA)."
    reference_seeds: int = 2
    "Number of models to retrain; two or more are also compared with each other."
    max_drop: float = 0.05
    "Exit with code 4 if accuracy on the holdout drops by more than this."
    annex: Path | None = None
    "Also write a .csv file with one row per forget example. It contains personal data."


@Parameter(name="*", group=_AUDIT)
@dataclass(frozen=True, kw_only=True)
class AuditOptions(SelectOptions):
    """The model to audit and what to compare it with. Only the model and the ids are required."""

    model: Path
    """The unlearned model, made by unmem or any other tool: a .safetensors file, a state dict saved by torch.save, or a
    folder written by save_pretrained."""
    original: Path | None = None
    "The model before unlearning, in any of these formats: shows what doing nothing would score."
    unsafe_load: Flag = False
    "Also load pickled model files, which can execute arbitrary code: only for files you trust."
    reference: str = NONE
    """Models trained without the forget set, for ToW and the distance to retraining: retrain trains them in this run;
    or a folder with their .safetensors files."""
    reference_seeds: int = 2
    "With --reference retrain: the number of models to retrain."
    runs: Annotated[tuple[Path, ...], Parameter(negative=(), consume_multiple=True)] = ()
    "Models made by the same method with other seeds, for KLoM; it needs twice as many retrained models."
    members: Path | None = None
    """Folder with the ensemble members of unmem score --method feldman (or ensemble) --work, used as shadow models for
    the test of single examples, LiRA and RMIA. Do not use members whose scores selected these ids."""
    crossfit: Path | None = None
    "A crossfit.npz from unmem prepare, for the forecast of the forget accuracy."
    trace: Path | None = None
    "A trace.npz recorded while the original was trained, for the same forecast."
    targets: Literal["auto", "ensemble", "crossfit", "trace", "teacher"] = "auto"
    """Source of the forecast. auto: the first of members, cross-fit and trace that is given. teacher: train one, at a
    cost of 0.2 trainings."""
    scores: Path | None = None
    "A scores.parquet, to show all results by memorization group."
    score: str = "confidence"
    "The score in that file to use."
    relearning: Annotated[bool, Parameter(negative="--no-relearning")] = True
    """Train briefly on the retain set and measure whether the forget set is relearned. Costs about 0.1 trainings per
    model."""
    annex: Path | None = None
    "Also write a .csv file with one row per forget example. It contains personal data."

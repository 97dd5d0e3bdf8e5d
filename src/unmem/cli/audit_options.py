"""The options of `unmem audit`. Imports nothing heavy: `--help` must answer at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from unmem.cli.options import Flag, SelectOptions

_AUDIT = Group("Audit", sort_key=0)
RETRAIN, NONE = "retrain", "none"


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

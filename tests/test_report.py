"""The page: what it shows, what it must never show, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unmem.evaluation import Evaluation, Outcome, Part
from unmem.evaluation.reasons import NO_REFERENCE, ONE_REFERENCE
from unmem.memorization import Scores
from unmem.report import Report

N = 400
IDS = np.array([f"person-{i:04d}" for i in range(N)])
FLIPPED = IDS[:20]


def outcome(forget: float, tow: float | None, tow_mia: float | None, **more: Any) -> Outcome:
    parts = {name: Part(30, forget, 1 - forget, tow, tow_mia) for name in ("low", "medium", "high")}
    return Outcome({"forget": forget, "retain": 0.99, "test": 0.95}, 1 - forget, parts, tow, tow_mia, **more)


NOTHING = outcome(0.989, 0.658, 0.658, seconds=0.0, cost=0.0)
RETRAINED = outcome(0.661, None, None)
FULL = Evaluation(
    methods={
        "fine-tune": outcome(0.967, 0.685, 0.929, seconds=0.41, cost=0.24),
        "neggrad+": outcome(0.678, 0.970, 0.970, seconds=0.52, cost=0.31),
        "rum": outcome(0.656, 0.982, 0.993, seconds=0.71, cost=0.42, cost_all_told=0.58),
    },
    do_nothing=NOTHING,
    retrain_vs_retrain=outcome(0.661, 0.985, 0.985),
    reference=RETRAINED,
    n_reference=2,
)


def without_reference() -> Evaluation:
    def blind(one: Outcome) -> Outcome:
        return replace(one, tow=None, tow_mia=None, reason=NO_REFERENCE)

    return Evaluation({name: blind(one) for name, one in FULL.methods.items()}, blind(NOTHING), None, None, 0)


def scores(name: str = "confidence", values: NDArray[np.float64] | None = None) -> Scores:
    spread = np.random.default_rng(0).beta(1, 9, N)
    spread[:20] += 0.5
    return Scores(name, IDS, spread if values is None else values)


def page(**fields: Any) -> str:
    """The page without the libraries, which are the same in all and 0.9 MB."""
    return re.sub(r"<script>.*?</script>", "", html(**fields), count=1, flags=re.S)


def html(**fields: Any) -> str:
    return Report(**({"title": "Forgetting 90 of 1,258 examples"} | fields)).html()


def specs(text: str) -> dict[str, Any]:
    found = re.search(r"^const charts = (.*);$", text, flags=re.M)
    assert found
    return json.loads(found[1])


def words(text: str) -> str:
    """What a reader sees of the body, on one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture(scope="module")
def full() -> str:
    return page(evaluation=FULL, scores=[scores(), scores("entropy")], flipped=FLIPPED, facts={"seed": "0"})


def test_every_row_is_in_the_table(full: str) -> None:
    names = re.findall(r'<th role="rowheader" scope="row">([^<]+?) ?<', full)
    assert names == ["retrained (the goal)", "one retrain vs another", "fine-tune", "neggrad+", "rum", "do nothing"]


def test_numbers_are_written_as_percentages_and_three_decimals(full: str) -> None:
    cells = re.findall(r'<td role="cell" data-label="([^"]+)">([^<]*)', full)
    rum = cells[-18:-9]
    assert rum == [
        ("forget set", "65.6%"),
        ("retain set", "99.0%"),
        ("test set", "95.0%"),
        ("called unseen (MIA)", "34.4%"),
        ("ToW", "0.982"),
        ("ToW-MIA", "0.993"),
        ("seconds", "0.7"),
        ("cost", "0.42"),
        ("total cost", "0.58"),
    ]


def test_headline_puts_the_best_method_beside_both_controls(full: str) -> None:
    seen = words(full)
    assert "Of 3 methods, rum came closest to retraining by ToW, with 0.982" in seen
    assert "doing nothing scores 0.658" in seen
    assert "ToW: retrain against retrain scores 0.985; rum at 0.982 is below the band, by 0.003." in seen
    assert "rum at 0.993 is inside the band: not distinguishable from retraining at this resolution" in seen


def test_headline_says_when_doing_nothing_does_as_well() -> None:
    idle = replace(FULL, do_nothing=replace(NOTHING, tow=0.99, tow_mia=0.97))
    seen = words(page(evaluation=idle))
    assert "Doing nothing is inside the band too" in seen
    close = replace(FULL, do_nothing=replace(NOTHING, tow=0.975))
    assert "above doing nothing (0.975) by no more than honest retrains differ" in words(page(evaluation=close))
    above = replace(FULL, do_nothing=replace(NOTHING, tow=0.984))
    assert "It is not above doing nothing (0.984)" in words(page(evaluation=above))


def test_a_gap_too_small_to_print_is_still_a_gap() -> None:
    rum = {"rum": outcome(0.66, 0.98496, 0.985)}
    seen = words(page(evaluation=replace(FULL, methods=rum)))
    assert "rum has a ToW of 0.985" in seen
    assert "below the band, by less than 0.001" in seen


@pytest.mark.parametrize("word", ["PASS", "passed", "perfect", "forgotten"])
def test_no_verdict_is_given(full: str, word: str) -> None:
    assert word not in full
    assert word.lower() not in words(full).lower()


def test_missing_reference_shows_the_reason() -> None:
    text = page(evaluation=without_reference())
    seen = words(text)
    assert f"How close a method comes to retraining is not known: that {NO_REFERENCE}." in seen
    assert f"a {NO_REFERENCE}" in seen, "the note under the table"
    assert re.search(r'data-label="ToW">–<sup>a</sup>', text)
    assert len(specs(text)) == 3, "the parts alone"


def test_single_reference_has_no_band() -> None:
    text = page(evaluation=replace(FULL, retrain_vs_retrain=None, n_reference=1))
    assert f"How close an honest retrain would come is not known: that {ONE_REFERENCE}." in words(text)
    assert "reference: one model" in text
    assert "the retrained model on " in words(text)
    assert not [layer for layer in specs(text)["chart-1"]["layer"] if layer["mark"]["type"] == "rect"]


def test_missing_time_and_cost_show_the_reason() -> None:
    untimed = replace(FULL, methods={"a": outcome(0.7, 0.9, 0.9), "b": outcome(0.7, 0.9, 0.9, seconds=1234.5)})
    text = page(evaluation=untimed)
    assert "the time was not recorded" in text
    assert "needs the training time of the original" in text
    assert "1,234" in text


def test_band_and_methods_are_in_the_closeness_charts(full: str) -> None:
    tow, tow_mia = specs(full)["chart-1"], specs(full)["chart-2"]
    assert tow["description"] == "ToW by method"
    assert tow["layer"][0]["data"]["values"] == [{"low": 0.985, "high": 1}]
    dots = {row["row"]: row["value"] for row in tow_mia["layer"][2]["data"]["values"]}
    assert dots == {"fine-tune": 0.929, "neggrad+": 0.970, "rum": 0.993, "do nothing": 0.658}


@pytest.mark.parametrize("accuracy", [None, 0.25], ids=["unknown", "given"])
def test_small_parts_are_not_shown(accuracy: float | None) -> None:
    parts = {"low": Part(9, accuracy, accuracy), "high": Part(10, 0.5, 0.5)}
    cut = {name: replace(one, parts=parts) for name, one in FULL.methods.items()}
    small = replace(
        FULL, methods=cut, do_nothing=replace(NOTHING, parts=parts), reference=replace(RETRAINED, parts=parts)
    )
    text = page(evaluation=small)
    assert "Part “low” has 9 examples, too few to show (fewer than 10)." in text
    shown = [spec["description"] for spec in specs(text).values()]
    assert shown[2:] == ["Accuracy on the forget examples of part high, by method"]
    assert "0.25" not in text
    assert "25.0%" not in text


def test_histograms_count_every_example_once(full: str) -> None:
    bars = specs(full)["chart-6"]["data"]["values"]
    counted = {kind: sum(b["n"] for b in bars if b["kind"] == kind) for kind in ("other", "planted wrong label")}
    assert counted == {"other": N - 20, "planted wrong label": 20}
    assert f"AUROC {scores().auroc(FLIPPED):.3f}" in full
    assert "planted wrong label (20)" in full


def test_scores_with_few_values_get_one_bar_each() -> None:
    shares = np.arange(N) % 21 / 20
    bars = specs(page(scores=[scores("accuracy", shares)]))["chart-1"]["data"]["values"]
    assert [bar["n"] for bar in bars] == np.bincount(np.arange(N) % 21).tolist()


def test_scores_alone_and_their_gaps() -> None:
    holes = np.where(np.arange(N) < 100, np.nan, np.linspace(0, 1, N))
    odd = [scores("constant", np.zeros(N)), scores("holes", holes), scores("empty", np.full(N, np.nan))]
    text = page(scores=odd)
    assert len(specs(text)) == 3, "two histograms, and one pair of scores that share values"
    assert "100 without a value" in text
    assert "The score empty has no value for any example." in text
    assert "AUROC" not in text
    assert "<table" not in text


def test_no_scores_and_nothing_at_all() -> None:
    assert "How memorized" not in page(evaluation=FULL)
    assert "<script" not in html(), "no charts, no libraries"


def test_ids_never_occur(full: str) -> None:
    assert "person-" not in full
    assert "person-" not in html(evaluation=FULL, scores=[scores()], flipped=FLIPPED)


def test_texts_are_escaped() -> None:
    evil = '<script>alert("&")</script>'
    methods = {evil: FULL.methods["rum"]}
    text = page(
        title=evil,
        lead=[evil],
        evaluation=replace(FULL, methods=methods),
        labels={evil: evil},
        scores=[scores(evil)],
        facts={evil: evil},
    )
    assert evil not in text
    assert "alert(" in text
    assert text.count("<script>") == 1, "the one that draws"
    assert f"Histogram of the score {evil}" in json.dumps(specs(text), ensure_ascii=False).replace('\\"', '"')


def test_page_needs_nothing_else(full: str) -> None:
    for reference in ("http:", "https:", "src=", "href=", "@import", "url(", "//cdn", "fetch("):
        assert reference not in full, reference
    # The libraries name addresses (namespaces, the editor of a menu that is off); the browser is told to fetch none.
    assert "default-src 'none'" in full
    assert full.index("Content-Security-Policy") < full.index("<style>")


def test_libraries_are_in_the_page_once() -> None:
    text = html(evaluation=FULL, scores=[scores()])
    assert text.count("window.vegaEmbed=") == 1
    assert text.count("<script>") == text.count("</script>") == 2
    assert len(text) > 500_000


def test_the_page_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report = Report(title="ToW – α", scores=[scores()])
    report.save(path)
    assert path.read_text(encoding="utf-8") == report.html()
    with pytest.raises(AttributeError):
        Report(title="broken", scores=[None]).save(path)
    assert path.read_text(encoding="utf-8") == report.html()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]

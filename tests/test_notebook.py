"""What notebooks show: the numbers that are there, beside their controls, and nothing that could be taken for HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.test_report import FULL, IDS, outcome, without_reference
from unmem.errors import UserError
from unmem.evaluation import (
    TOO_FEW,
    Attack,
    Audit,
    Evidence,
    Forecast,
    Missing,
    Relearning,
    Side,
    SingleModelTest,
    Verdict,
    aggregates_only,
)
from unmem.memorization import Scores

VALUES = np.concatenate([np.linspace(0, 1, 399), [np.nan]])
TEST = SingleModelTest(90, Side(0.11, 0.02, 0.05, 0.001, 0.08), Side(0.01, 0.02, 0.06, 0.7, 0.09), 0.3, 1.2, 0.4, 1.0)


def evidence(auc: float, klom: float | None = None) -> Evidence:
    attack = Attack(auc, auc - 0.0512, auc + 0.0487, {"1%": None, "0.1%": None})
    return Evidence(TEST, {"low": TEST}, {"confidence": attack}, 0.21, Relearning(0.5, 0.6), klom, None)


AUDIT = Audit(
    evaluation=FULL,
    evidence={"rum": evidence(0.61)},
    do_nothing=evidence(0.93),
    retrained=(evidence(0.50), evidence(0.52)),
    verdicts={"rum": Verdict("none found", "no trace found", "the test of single examples")},
    forecast=Forecast(0.66, 0.58, 0.74, 0.64, "a cross-fit", 90),
    missing=(Missing("KLoM", "two runs", 4.0),),
    notes=("the members were trained by another recipe",),
    t={"rum": np.zeros(90)},
)


class Cells(HTMLParser):
    """Texts of the cells of all rows, and whether every tag that was opened was closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data if "small" not in self.open else f" [{data}]"

    def row(self, name: str) -> list[str]:
        return next(row[1:] for row in self.rows if row[0] == name)


def test_an_evaluation_shows_each_method_between_reference_and_controls() -> None:
    shown = Cells(FULL._repr_html_())
    names = [row[0] for row in shown.rows[:7]]
    assert names == [
        "model",
        "retrained (the goal)",
        "one retrain vs another",
        "fine-tune",
        "neggrad+",
        "rum",
        "do nothing",
    ]
    assert shown.row("rum") == ["65.6%", "99.0%", "95.0%", "34.4%", "0.982", "0.993", "0.7", "0.42", "0.58"]
    assert shown.row("one retrain vs another")[4:6] == ["0.985", "0.985"]
    assert "Two retrained models differ by 0.015 in ToW" in FULL._repr_html_()
    assert ["model", "low (30)", "medium (30)", "high (30)"] in shown.rows


def test_a_method_that_is_named_as_a_control_has_its_own_row() -> None:
    named = replace(FULL, methods=dict.fromkeys(("retrained", "do nothing"), FULL.methods["rum"]))
    rows = named.table().rows
    assert [(row.name, row.kind) for row in rows[2:]] == [
        *(("retrained", "method"), ("do nothing", "method"), ("do nothing", "control"))
    ]
    assert rows[2].values["tow"] == rows[3].values["tow"] == 0.982
    assert [row[1:] for row in Cells(named.table().to_html()).rows[3:5]] == [Cells(FULL._repr_html_()).row("rum")] * 2


def test_numbers_of_few_examples_are_left_out_for_one_reason() -> None:
    table = aggregates_only(FULL, 3).table()
    assert {row.reasons["tow"] for row in table.rows} == {TOO_FEW}
    assert all(row.values["tow"] is None for row in table.rows)


def test_a_number_that_is_missing_says_why() -> None:
    html = without_reference()._repr_html_()
    assert Cells(html).row("rum")[4:6] == ["– (a)", "– (a)"]
    assert "(a) needs a retrained model to compare with" in html


def test_an_outcome_and_evidence_alone_say_where_their_controls_are() -> None:
    one = outcome(0.656, 0.982, 0.993, seconds=0.71, cost=0.42)
    assert Cells(one._repr_html_()).row("this model")[4:6] == ["0.982", "0.993"]
    assert "Compare it with retraining and with doing nothing" in one._repr_html_()
    assert "Compare it with the original and with retrained models" in evidence(0.6)._repr_html_()


def test_an_audit_shows_verdict_intervals_controls_and_what_was_not_seen() -> None:
    html = AUDIT._repr_html_()
    shown = Cells(html)
    assert "rum: no trace found. By: the test of single examples." in html
    assert "66.0% of the forget set right (58.0% to 74.0%)" in html
    assert shown.row("rum") == ["11.0%", "1.0%", "0.610 [0.559 to 0.659]", "0.210", "+10.0%"]
    evidence_rows = {row[0]: row[1:] for row in shown.rows if len(row) == 6}
    assert evidence_rows["do nothing"][2] == "0.930 [0.879 to 0.979]"
    assert evidence_rows["retrained (the goal)"][2] == "0.510"  # the mean of two has no interval of one
    assert shown.row("all of them")[:5] == ["90", "11.0%", "5.0%", "8.0%", "40.0%"]
    assert "Not seen: KLoM; that needs two runs, about 4 trainings." in html
    assert "the members were trained by another recipe" in html


def test_scores_show_a_histogram_of_every_value_and_quantiles() -> None:
    html = Scores("confidence", IDS, VALUES, np.full(400, 0.05))._repr_html_()
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", html, re.S)[0])  # pyright: ignore
    titles = [bar.find("title").text for bar in svg.iter("rect")]  # pyright: ignore
    assert sum(int(text.split()[0].replace(",", "")) for text in titles) == 399  # pyright: ignore
    shown = Cells(html)
    assert shown.row("value") == ["0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"]
    assert shown.row("standard error") == ["0.05"] * 7
    assert "confidence: 400 examples" in html
    assert "1 of them have no value" in html
    assert "person-" not in html


def test_taller_bars_hold_more() -> None:
    html = Scores("s", IDS, np.repeat([0.0, 1.0], [390, 10]))._repr_html_()
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]+)"', html)]
    assert heights[0] / heights[1] == pytest.approx(np.log(391) / np.log(11), rel=0.01)


def test_scores_without_any_value_or_with_one_show_something() -> None:
    assert "4 of them have no value" in Scores("s", IDS[:4], np.full(4, np.nan))._repr_html_()
    assert "<title>4 examples" in Scores("s", IDS[:4], np.ones(4))._repr_html_()


def test_names_are_text_wherever_they_stand() -> None:
    evil = '<script>alert("&")</script>'
    named = replace(FULL, methods={evil: FULL.methods["rum"]})
    verdicts = {evil: Verdict("none found", f"no {evil}", evil)}
    audit = replace(AUDIT, evaluation=named, evidence={evil: evidence(0.6)}, verdicts=verdicts, notes=(evil,))
    for shown in (named, audit, Scores(evil, IDS, VALUES)):
        html = shown._repr_html_()
        assert evil not in html
        assert "script" not in Cells(html).tags
        assert "&lt;script&gt;alert(&quot;&amp;&quot;)" in html


def test_scores_as_a_frame_join_by_id() -> None:
    pandas = pytest.importorskip("pandas")
    first = Scores("confidence", IDS, VALUES, np.full(400, 0.05))
    second = Scores("aum", IDS[::-1].copy(), np.arange(400.0))
    joined = pandas.concat([first.to_pandas(), second.to_pandas()], axis=1)
    assert list(joined.columns) == ["confidence", "confidence-error", "aum"]
    assert joined.index.name == "id"
    np.testing.assert_array_equal(joined.loc[IDS.tolist(), "confidence"].to_numpy(), VALUES)
    assert joined.loc[str(IDS[0]), "aum"] == 399


def test_an_evaluation_as_a_frame_holds_the_numbers_of_its_dictionary() -> None:
    frame = FULL.to_pandas()
    kinds = ["reference", "control", "method", "method", "method", "control"]
    assert frame["kind"].tolist() == kinds
    expected = FULL.to_dict()
    rows = {**expected["methods"], "do nothing": expected["controls"]["do_nothing"], "retrained": expected["reference"]}
    for name, row in rows.items():
        for key in ("tow", "tow_mia", "mia", "seconds", "cost"):
            assert frame.loc[name, key] == pytest.approx(np.nan if row.get(key) is None else row[key], nan_ok=True), (
                name,
                key,
            )
        for key in ("forget", "retain", "test"):
            assert frame.loc[name, key] == row["accuracy"][key]
        assert frame.loc[name, "low_forget"] == row["parts"]["low"]["accuracy"]
    assert frame.loc["one retrain vs another", "tow"] == 0.985
    numbers = frame.drop(columns="kind")
    assert {kind.name for kind in numbers.dtypes} == {"float64"}


def test_an_audit_as_a_frame_has_a_row_for_every_model_and_its_intervals() -> None:
    frame = AUDIT.to_pandas()
    assert frame.index.tolist() == ["retrained 1", "retrained 2", "rum", "do nothing"]
    assert frame["kind"].tolist() == ["reference", "reference", "method", "control"]
    assert frame.loc["rum", "finding"] == "none found"
    assert frame["auc_confidence"].tolist() == [0.50, 0.52, 0.61, 0.93]
    assert frame.loc["rum", ["auc_confidence_low", "auc_confidence_high"]].tolist() == pytest.approx([0.5588, 0.6587])
    assert frame.loc["rum", ["under", "under_limit", "over"]].tolist() == [0.11, 0.05, 0.01]
    assert frame["relearned"].tolist() == pytest.approx([0.1] * 4)
    assert frame["klom"].isna().all()


@pytest.mark.parametrize("what", [Scores("s", IDS, VALUES), FULL, AUDIT], ids=["scores", "evaluation", "audit"])
def test_without_pandas_the_extra_is_named(what: Scores | Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmem.extras.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"to_pandas: the package pandas is not installed; pip install 'unmem\[pandas"):
        what.to_pandas()

"""What an attribution needs, and designs of codes: rules with evidence for and against."""

import dataclasses

import numpy as np
import pytest
import torch
from test_signals import CODES, N, P, R, S, value_with

from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.study.signals import designs

NONE, SOME = value_with(), value_with(effect=3.0, shared=1.0)


def design(codes, code, shared, exposure=500.0):
    """Fewer codes of another design, whose scores share more or less of their variance."""
    value = value_with(effect=shared, shared=shared)
    levels = [level for level, count in enumerate(CODES) if count <= codes]
    return dataclasses.replace(
        value, code=code, exposure=exposure, codes=CODES[: len(levels)],
        scores=value.scores[:, -codes:], p_values=value.p_values[:, levels],
        placebo_p=value.placebo_p[:, levels],
    )  # fmt: skip


def test_codes_are_needed_where_there_is_something_to_agree_about():
    assert np.isinf(designs.codes_needed(NONE, "moved", 0.5))
    assert 0 < designs.codes_needed(SOME, "moved", 0.5) < 3
    table = designs.needed_table(SOME)
    assert list(table["statistic"]) == list(designs.WORDS.values())
    rows = designs.sets_table([NONE, SOME])
    assert rows["members for 0.8"].iloc[0] == "none" and float(rows["members for 0.8"].iloc[1]) > 14
    assert designs.sets_table([design(2, (28, 7), 1.0)]).empty


def test_a_title_names_a_code_only_if_it_is_another():
    assert designs.title(NONE) == "digits_64, 500 views"
    assert designs.title(design(2, (28, 7), 1.0)) == "digits_64, 500 views, 7 of 28"
    assert list(designs.curves([NONE, design(2, (28, 7), 1.0)])) == ["digits_64, 500 views"]


@pytest.mark.parametrize(
    "shared, words", [(3.0, "better: 4 codes"), (0.0, "worse: 4 codes"), (1.0, "no different")]
)
def test_a_design_is_judged_beside_as_much_training_of_the_usual_one(shared, words):
    usual = value_with(effect=1.0, shared=1.0)
    other = design(4, (28, 7), shared)
    verdict = designs.design_verdict(usual, [other])
    assert words in verdict and ("we recommend" in verdict) == (shared < 3)
    table = designs.design_table(usual, [other])
    # members that see half as many images, twice as many of them: four codes beside four
    assert list(table["members"]) == ["4 × 14", "4 × 28"]
    assert list(table["each sees"]) == ["50%", "25%"] and list(table["left"])[1] == "21 of 28"


def test_twice_the_weight_is_held_against_twice_the_codes():
    usual = value_with(effect=1.0, shared=1.0)
    assert list(designs.design_table(usual, [design(2, (28, 14), 1.0)])["members"])[0] == "4 × 14"
    assert "No other design" in designs.design_verdict(usual, [])


def test_designs_are_compared_whose_members_train_as_long():
    usual = value_with(effect=1.0, shared=1.0)
    fair, short = design(4, (28, 7), 1.0, 1000.0), design(4, (28, 7), 1.0)
    assert designs.others_of(usual, [usual, fair, short]) == [fair]
    # members that see half as many images twice as often: four codes beside eight
    assert list(designs.design_table(usual, [fair])["members"]) == ["8 × 14", "4 × 28"]
    most = design(2, (16, 14), 1.0, 500 * 8 / 14)
    assert designs.others_of(usual, [most]) == [most]
    assert list(designs.design_table(usual, [most])["members"]) == ["2 × 14", "2 × 16"]


def test_what_is_at_hand_is_found_once_by_exposure_and_code(tmp_path):
    store = Store(tmp_path, None)
    names = ("scores", "p_values", "placebo_p", "distances", "placebos", "nearest", "factual")
    tensors = {}
    for name in (*names, "planted_p", "planted_moved"):
        tensors[name] = torch.from_numpy(getattr(NONE, name)).contiguous()
    info = {"exposure": 500.0, "code": [14, 7], "codes": list(CODES), "strengths": [0.1]}
    for codes in (2, R):
        spec = {"recipe": "digits_64-laptop", "ensembles": ["x"] * codes, "indices": list(range(S))}
        spec["statistics"] = list(designs.NAMES)
        files = {"signal.safetensors": tensors}
        store.write("signal", "digits_64-laptop", spec, files, info | {"exposure": 500.0})
        store.write(
            "signal", "digits_64-laptop", spec | {"x": 1}, files, info | {"exposure": 125.0}
        )
    found = designs.known(Here(store, "cpu"))
    assert [each.exposure for each in found] == [125.0, 500.0]
    assert all(len(each.artefact.spec["ensembles"]) == R for each in found)
    assert found[0].scores.shape == (4, R, S, N) and found[0].placebos.shape[2] in (N, P)
    assert designs.others_of(found[0], found) == []

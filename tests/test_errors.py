"""Errors that a user meets: one line, a name, a remedy."""

import pickle

import numpy as np
import pytest

import abc_lib
from abc_lib.ground import errors
from abc_lib.ground.errors import AbcError, BadValue, Known, UnknownName, positive_int, unknown

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AbcError)
]


def test_there_is_a_kind_for_each_mistake_and_one_name_for_all():
    assert len(KINDS) == 9 and all(getattr(abc_lib, kind.__name__) is kind for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_whole_from_a_worker_process(kind):
    copy = pickle.loads(pickle.dumps(kind("a line; a remedy")))
    assert type(copy) is kind and str(copy) == "a line; a remedy"


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_one_line(kind):
    assert kind("a line")._render_traceback_() == [f"{kind.__name__}: a line"]


def test_ipython_asks_for_that_line(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_cell("from abc_lib.ground.errors import BadValue\nraise BadValue('weight is 0')")
    shown = capsys.readouterr()
    text = (shown.out + shown.err).strip()
    assert text == "BadValue: weight is 0"


def test_unknown_names_the_closest_or_all():
    near = unknown("ensemble", "mnist_1000", iter(["mnist_1024", "digits_64"]))
    assert (
        isinstance(near, UnknownName)
        and str(near) == "unknown ensemble 'mnist_1000'; did you mean 'mnist_1024'?"
    )
    assert (
        str(unknown("scale", "huge", iter(["laptop", "paper"])))
        == "unknown scale 'huge'; known: laptop, paper"
    )
    assert "None" in str(unknown("scale", None, ["laptop"]))


@pytest.mark.parametrize("value", [1, 7, 10**30])
def test_whole_numbers_of_at_least_one_pass(value):
    assert positive_int("n", value) == value


@pytest.mark.parametrize("value", [np.int64(3), np.uint8(3)])
def test_numpys_whole_numbers_are_whole_numbers(value):
    assert positive_int("n", value) == 3 and type(positive_int("n", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", None, True, np.bool_(True), np.float64(2)])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(BadValue, match="^n is .*; it must be a whole number of at least 1$"):
        positive_int("n", value)


def test_a_table_by_name_raises_its_own_error():
    table = Known("scale", {"laptop": 1, "paper": 2})
    assert table["paper"] == 2 and table.get("desk") is None and "desk" not in table
    with pytest.raises(UnknownName, match="^unknown scale 'papr'; did you mean 'paper'[?]$"):
        table["papr"]

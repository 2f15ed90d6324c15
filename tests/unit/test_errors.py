import pickle

import pytest

from i2i import errors
from i2i.errors import DataError, I2IError, UsageError, suggest, unknown

CHILDREN = I2IError.__subclasses__()


def example(kind: type[I2IError]) -> I2IError:
    return kind("it broke", where="a.toml", expected="peace", remedy="mend it")


def test_a_message_has_its_four_parts_in_order():
    assert str(example(I2IError)) == "a.toml: it broke; expected peace; mend it."


@pytest.mark.parametrize("kind", CHILDREN)
def test_every_error_is_drawn_in_the_docstring_and_is_an_i2i_error(kind):
    assert issubclass(kind, I2IError)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", CHILDREN)
def test_only_a_wrong_command_has_status_two(kind):
    assert kind.exit_status == (2 if kind is UsageError else 1)


@pytest.mark.parametrize("kind", CHILDREN)
def test_an_error_survives_the_way_back_from_a_worker_process(kind):
    copy = pickle.loads(pickle.dumps(example(kind)))

    assert type(copy) is kind
    assert str(copy) == str(example(kind))
    assert (copy.wrong, copy.where, copy.expected, copy.remedy) == (
        "it broke",
        "a.toml",
        "peace",
        "mend it",
    )


def test_an_unknown_name_is_told_with_the_known_ones_and_the_nearest():
    known = ("left", "right")

    error = unknown("side", "lefft", known, where="here")

    assert isinstance(error, UsageError)
    assert str(error) == (
        "here: there is no side 'lefft'; expected one of left, right; did you mean 'left'?"
    )
    other = unknown("side", 3, known, where="here", error=DataError, otherwise="look")
    assert type(other) is DataError
    assert str(other) == "here: there is no side 3; expected one of left, right; look."
    assert "expected none, as there are none; " in str(unknown("side", "up", (), where="here"))


def test_the_nearest_name_is_suggested_and_only_when_it_is_near():
    assert (
        suggest("horse2zebr", ["horse2zebra", "facades"], "look") == "did you mean 'horse2zebra'?"
    )
    assert suggest("elephant", ["horse2zebra", "facades"], "look") == "look"

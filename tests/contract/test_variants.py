"""What a family may say that a request stands for, and what the kit finds wrong with it."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from i2i import PluginError, UsageError
from i2i.engine.variants import only_request, variants_of
from i2i.testing import check_translator
from i2i.testing.translation import check_variants
from tests.contract.families import Tiny


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["0-18", "60+", "all"] = Field("60+", description="Of ages.")


class Ages(Tiny):
    """Keeps the contract: its translate knows one group at a time."""

    Request = Request

    @classmethod
    def variants(cls, request):
        if request.group != "all":
            return {"": request}
        return {each: Request(group=each) for each in ("0-18", "60+")}

    def translate(self, images, request):
        assert request.group != "all"
        return self.generator(images) * {"0-18": 0.5, "60+": 1}[request.group]


def returning(made):
    """Return a family of which a request for all groups stands for ``made``."""

    class Returning(Ages):
        @classmethod
        def variants(cls, request):
            return made if request.group == "all" else {"": request}

    return Returning


YOUNG, OLD, ALL = (Request(group=each) for each in ("0-18", "60+", "all"))


def test_a_family_says_nothing_and_a_request_stands_for_itself():
    request = Tiny.Request()
    assert variants_of(Tiny, request) == {"": request}
    assert only_request(Tiny, request) is request


def test_a_request_for_several_is_no_request_for_one():
    assert variants_of(Ages, ALL) == {"0-18": YOUNG, "60+": OLD}
    assert only_request(Ages, YOUNG) is YOUNG
    with pytest.raises(UsageError, match="stands for 2 variants \\(0-18, 60\\+\\)"):
        only_request(Ages, ALL)


@pytest.mark.parametrize("name", ["60+", "0-18", "a_b", "0.5", "+", "x" * 64])
def test_names_that_every_file_system_takes_are_taken(name):
    assert variants_of(returning({name: OLD}), ALL) == {name: OLD}


@pytest.mark.parametrize(
    "name",
    ["a/b", "a\\b", "..", ".a", "a.", "a b", "a:b", "a*", "é", "a\n", "x" * 65, 60, None],
)
def test_a_name_that_is_no_part_of_a_file_name_is_refused(name):
    with pytest.raises(PluginError, match=r"test_variants\..*Returning\.variants: names a variant"):
        variants_of(returning({"0-18": YOUNG, name: OLD}), ALL)


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        ({}, r"returned \{\}"),
        ([("60+", OLD)], r"returned \[\('60\+'"),
        ({"60+": {"group": "60+"}}, "returned .* for '60\\+'"),
        ({"Old": OLD, "old": YOUNG}, "names two variants 'old'"),
    ],
)
def test_what_is_no_request_a_name_is_refused(made, wrong):
    with pytest.raises(PluginError, match=wrong):
        variants_of(returning(made), ALL)


def test_the_kit_translates_by_variants_alone():
    check_variants(Ages)
    check_translator(Ages)


class Nested(Ages):
    @classmethod
    def variants(cls, request):
        return {"young": YOUNG, "old": OLD}


class Counting(Ages):
    num_calls = 0

    @classmethod
    def variants(cls, request):
        cls.num_calls += 1
        return {f"{cls.num_calls}": request}


class Unchecked(Ages):
    @classmethod
    def variants(cls, request):
        return {"": request if request.group != "all" else Request.model_construct(group="none")}


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        (Nested, "names a variant 'young' that stands for others than itself"),
        (Counting, "differs from call to call"),
        (returning({"": ALL, "60+": OLD}), "names a variant '' that stands for others"),
        (Unchecked, "names a variant '' that is no valid request"),
    ],
)
def test_the_kit_refuses_variants_that_are_no_requests_for_one_translation(family, wrong):
    with pytest.raises(PluginError, match=wrong):
        check_variants(family)

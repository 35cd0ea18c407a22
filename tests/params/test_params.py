"""params.yaml: what is accepted, and what one line says about the rest."""

from itertools import pairwise
from operator import attrgetter
from typing import Any

import pytest
from conftest import ROOT, changed

from fcn import params
from fcn.pipeline import dvc_yaml
from fcn.runtime.errors import UserError

TEXT = (ROOT / "recipes" / "scenes.yaml").read_text()


def check(**changes: Any) -> params.Params:
    return params.check(changed(TEXT, changes), "params.yaml")


@pytest.mark.parametrize("written", ["1e-05", "1e-5", "1.0e-5", "0.00001"])
def test_a_rate_is_a_number_however_dvc_or_a_person_writes_it(written: str) -> None:
    text = TEXT.replace("lr: 1.0e-3", f"lr: {written}")
    assert params.check(params.parse(text, "params.yaml"), "params.yaml").lr == 0.00001


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("lr", "fast", "params.yaml: lr is 'fast'; write a number such as 1.0e-4"),
        ("lr", -1, "params.yaml: lr is -1; it must be greater than 0"),
        ("lr", float("nan"), "params.yaml: lr is nan; it must be a finite number"),
        ("lr", float("inf"), "params.yaml: lr is inf; it must be a finite number"),
        ("lr", True, "params.yaml: lr is True; write a number such as 1.0e-4"),
        ("seed", 1.5, "params.yaml: seed is 1.5; write a whole number"),
        ("batch_size", 0, "params.yaml: batch_size is 0; it must be greater than 0"),
        ("loss", "median", "params.yaml: loss is 'median'; write mean or sum"),
        ("data.flip", "yes", "params.yaml: data.flip is 'yes'; write true or false"),
        ("data.dataset", "../x", "params.yaml: data.dataset is '../x'; write a name of letters, digits, - and _"),
        (
            "data.class_weights",
            -1,
            "params.yaml: data.class_weights is -1; write none, an exponent, or a list of numbers",
        ),
        ("model.pad", 5, "params.yaml: model.pad is 5; write 100 or same"),
        ("model", 3, "params.yaml: model is 3; write a section of keys and values"),
        (
            "train.init",
            "a" * 101,
            f"params.yaml: train.init is '{'a' * 79}…; write parent, or a published net or one of data/own, or "
            "two joined by +",
        ),
        (
            "data.crop",
            "100001x1",
            "params.yaml: data.crop is '100001x1'; write none, or WIDTHxHEIGHT such as 224x224",
        ),
        (
            "data.scale",
            [2, 1],
            "params.yaml: data.scale is [2, 1]; write none, or two factors from 0 to 10, the smaller first, "
            "such as [0.5, 2.0]",
        ),
        ("data.jitter", -1, "params.yaml: data.jitter is -1; it must be greater than or equal to 0"),
        ("data.colour", 1.5, "params.yaml: data.colour is 1.5; it must be less than or equal to 1"),
        ("data.loss_sampling", 0, "params.yaml: data.loss_sampling is 0; it must be greater than 0"),
        (
            "train.average",
            "half",
            "params.yaml: train.average is 'half'; write none, or a fraction of the steps such as 0.25",
        ),
        ("train.iterations", -1, "params.yaml: train.iterations is -1; it must be greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_says_what_to_write(key: str, value: Any, line: str) -> None:
    with pytest.raises(UserError) as caught:
        check(**{key: value})
    assert str(caught.value) == line


def test_an_unknown_key_is_refused_with_the_one_that_was_meant() -> None:
    content = changed(TEXT, {}) | {"batchsize": 4}
    with pytest.raises(UserError, match=r"^params.yaml: batchsize is unknown; did you mean batch_size\?$"):
        params.check(content, "params.yaml")


def test_an_unknown_key_that_cannot_be_printed_is_still_refused_in_one_line() -> None:
    content = changed(TEXT, {}) | {"a\r\nb": 4}
    with pytest.raises(UserError) as caught:
        params.check(content, "params.yaml")
    assert str(caught.value) == r"params.yaml: 'a\r\nb' is unknown; remove it"


def test_of_thousands_of_unknown_keys_a_few_are_listed() -> None:
    content = changed(TEXT, {}) | {f"{'k' * 200}{i}": 1 for i in range(9000)}
    with pytest.raises(UserError) as caught:
        params.check(content, "params.yaml")
    assert str(caught.value).endswith("; and 8990 more")
    assert len(str(caught.value)) < 2000


def test_a_missing_key_is_named_with_its_section() -> None:
    content = changed(TEXT, {})
    del content["finetune"]["fcn8s"]["save"]
    with pytest.raises(UserError, match=r"^params.yaml: finetune.fcn8s.save is missing; "):
        params.check(content, "params.yaml")


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: {b: 1, b: 1}"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is duplicated"):
        params.parse(text, "params.yaml")


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise("abcdefghi")
)
MERGED_LAUGHS = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n" for before, name in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "more than 10000 values, with aliases expanded"),
        (MERGED_LAUGHS, "more than 10000 values, with aliases expanded"),
        ("a: &a [*a]", "alias *a is undefined or contains itself"),
        ("a: &a {b: *a}", "alias *a is undefined or contains itself"),
    ],
)
def test_aliases_that_would_grow_without_end_are_refused_at_once(text: str, reason: str) -> None:
    """A billion values, in a few hundred characters: neither kept nor printed."""
    with pytest.raises(UserError) as caught:
        params.parse(text, "params.yaml")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_alias_that_stands_for_a_few_values_is_plain_yaml() -> None:
    assert params.parse("a: &r {b: 1}\nc: *r\nd: [*r, *r]", "x") == {"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}] * 2}


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(UserError) as caught:
        check(lr="x" * 100_000)
    assert str(caught.value).startswith("params.yaml: lr is 'xxxxx")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("written", [".nan", ".inf", "-.inf", "1.0e+999", "nan", "inf", "1e999", "Infinity"])
@pytest.mark.parametrize("key", ["lr", "weight_decay", "model.init_std", "train.lr_factor", "data.class_weights"])
def test_no_number_may_be_infinite_or_none_at_all(key: str, written: str) -> None:
    with pytest.raises(UserError, match=rf"^params.yaml: {key} is "):
        check(**{key: params.parse(f"x: {written}", "x")["x"]})


def test_a_list_of_weights_must_be_finite_too() -> None:
    with pytest.raises(UserError, match=r"^params.yaml: data.class_weights is \[1.0, inf\]"):
        check(**{"data.class_weights": [1.0, float("inf")]})


NO_MAPPINGS = ["[", "- 1", "", "\0", "[" * 5000, "x: 2026-99-99", "a: !!python/object/apply:os.system [id]"]
NO_TEXT_KEYS = ["? [1]\n: 2", "32: 1", "on: 1"]


@pytest.mark.parametrize("text", [*NO_MAPPINGS, *NO_TEXT_KEYS])
def test_what_is_no_plain_mapping_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        params.parse(text, "params.yaml")
    assert "\n" not in str(caught.value)


def test_every_recipe_is_a_valid_experiment() -> None:
    recipes = sorted((ROOT / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        params.load(recipe)


def test_params_yaml_holds_a_recipe_as_it_is() -> None:
    assert (ROOT / "params.yaml").read_text() in [p.read_text() for p in (ROOT / "recipes").glob("*.yaml")]


@pytest.mark.parametrize(("written", "size"), [("native", "native"), (256, 256), ("240x180", params.Size(240, 180))])
def test_a_size_is_native_a_shorter_side_or_width_by_height(written: int | str, size: int | str | params.Size) -> None:
    experiment = check(**{"data.size.train": written})
    assert experiment.data.size.train == size
    assert experiment.model_dump()["data"]["size"]["train"] == written


@pytest.mark.parametrize("key", ["data.crop", "data.tile", "data.class_weights", "data.folder.group", "train.freeze"])
def test_the_word_none_is_read_as_no_value_and_written_again_and_an_empty_value_is_refused(key: str) -> None:
    experiment = check(**{key: "none"})
    section, written = attrgetter(key.rpartition(".")[0])(experiment), experiment.model_dump()
    assert getattr(section, key.rpartition(".")[2]) is None
    assert dvc_yaml.lookup(written, key) == "none"
    with pytest.raises(UserError, match=f"{key} is None; write none"):
        check(**{key: None})

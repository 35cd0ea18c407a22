"""The model card of an exported net."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import Checkout
from model_files import META, net_of

from fcn.data.labels import Labels
from fcn.export import card
from fcn.export.onnx import Difference
from fcn.weights import model_file

DIGESTS = {"model.onnx": "0" * 64}


def front_and_text(whole: str) -> tuple[dict[str, object], str]:
    _, front, text = whole.split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.mark.slow
def test_the_card_of_an_experiment_has_its_data_scores_with_interval_classes_and_params(
    kept: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kept.folder)
    path = Path("data/weights/fcn16s.safetensors")
    found = card.record(path)
    assert found is not None
    assert found.net == "fcn16s"
    assert found.interval is not None
    assert found.interval.difference == pytest.approx(found.scores["mean_iu"], abs=1e-12)
    assert found.interval.low <= found.scores["mean_iu"] <= found.interval.high
    front, text = front_and_text(card.card(model_file.facts(path), found, DIGESTS, Difference()))
    assert front["license"] == "mit"
    (model,) = front["model-index"]  # type: ignore[misc, attr-defined]
    assert model["name"] == "FCN-16s"
    assert model["results"][0]["dataset"] == {"name": "scenes", "type": "scenes", "split": "val"}
    assert model["results"][0]["metrics"][0]["value"] == round(found.scores["mean_iu"], 4)
    assert f"| mean IU | {100 * found.scores['mean_iu']:.2f} |" in text
    assert f"interval of mean IU: {100 * found.interval.low:.2f} to {100 * found.interval.high:.2f}" in text
    assert len(found.classes) == 8
    for name, iu in found.classes:
        assert f"| {name} | {100 * iu:.1f} |" in text
    assert "| train.iterations | 4 |" in text
    assert "drawn by this project's code" in text
    assert f"| the model file it was trained from | sha256 {model_file.facts(path).parent} |" in text


def test_the_card_of_a_file_of_no_experiment_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net_of(tmp_path / "net.safetensors")
    monkeypatch.chdir(tmp_path)
    assert card.record(Path("net.safetensors")) is None
    front, text = front_and_text(card.card(META, None, DIGESTS, Difference()))
    assert not front.keys() & {"license", "model-index"}
    assert "its data are not known" in text
    assert "None are recorded." in text


def test_the_card_names_every_input_and_output() -> None:
    inputs = {"rgb": 3, "depth": 1, "bands": 5}
    meta = replace(META, architecture=META.architecture | {"inputs": inputs, "geometric": 3}, geometric=META.labels)
    text = card.card(meta, None, DIGESTS, Difference())
    assert "`image` (RGB), `depth` (40 · (ln(depth in mm) - 5), rounded; 0 where it is unknown), `bands` (5 ch" in text
    assert "Its outputs are `logits`, `classes`, `geometric_logits`, `geometric_classes`." in text


def test_names_and_values_add_no_columns_and_no_html() -> None:
    labels = Labels(("a|b", "<script>"), ((0, 0, 0), (1, 1, 1)))
    meta = replace(META, labels=labels, params={"data": {"dataset": "x | <b>\n# y"}})
    text = card.card(meta, None, DIGESTS, Difference())
    assert "| data.dataset | x \\| \\<b\\> # y |" in text

"""COCO files: instances as pycocotools draws them, panoptic PNGs by the rule of the format's page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import converted, drawn, refusal
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from fcn.data.labels import UInt8
from fcn.inspection import summary

SIZE = (53, 37)  # width, height
STAR = [26.5, 2.2, 41.3, 33.9, 3.7, 14.1, 49.8, 13.6, 12.4, 34.2]  # crosses itself


def blob(seed: int) -> UInt8:
    """(37, 53) random patches of 5 pixels."""
    coarse = np.random.default_rng(seed).random((8, 11)) < 0.4
    return np.kron(coarse, np.ones((5, 5))).astype(np.uint8)[: SIZE[1], : SIZE[0]]


def compressed(mask: UInt8) -> dict[str, Any]:
    encoded = rle.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def plain(mask: UInt8) -> dict[str, Any]:
    """Run lengths along the columns, those of zeros first."""
    flat = mask.T.ravel()
    ends = [*np.flatnonzero(np.diff(flat.astype(int), prepend=0)), flat.size]
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def instances(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{name}.png", "width": SIZE[0], "height": SIZE[1]}
            for i, name in enumerate(("a", "b", "empty"), 7)
        ],
        "categories": [{"id": 90, "name": "tooth"}, {"id": 3, "name": "car"}, {"id": 18, "name": "dog"}],
        "annotations": [{"id": i, "iscrowd": 0} | one for i, one in enumerate(annotations, 1)],
    }


ANNOTATIONS: list[dict[str, Any]] = [
    {"image_id": 7, "category_id": 18, "segmentation": [STAR]},
    {"image_id": 7, "category_id": 3, "segmentation": [[1, 1, 9.5, 1, 9.5, 9.5], [40, 20, 60.5, 22, 44.5, 41.7]]},
    {"image_id": 8, "category_id": 90, "segmentation": compressed(blob(1))},
    {"image_id": 7, "category_id": 90, "segmentation": plain(blob(2))},
    {"image_id": 8, "category_id": 3, "segmentation": [[5, 5, 30, 6, 28, 30]]},
    {"image_id": 8, "category_id": 3, "segmentation": compressed(blob(3)), "iscrowd": 1},
]


def write(folder: Path, content: dict[str, Any], name: str = "instances.json") -> Path:
    images = dict.fromkeys(("a.png", "b.png", "empty.png"), SIZE)
    return drawn(folder, images, {name: json.dumps(content)})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools' decode
def test_instances_are_drawn_as_pycocotools_draws_them_pixel_by_pixel(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", instances(ANNOTATIONS))
    result, masks = converted(folder)
    assert result.errors == []
    assert result.params.classes == ["background", "car", "dog", "tooth"]
    coco, codes = COCO(folder / "instances.json"), {3: 1, 18: 2, 90: 3}
    for name, image in (("a", 7), ("b", 8), ("empty", 9)):
        truth = np.zeros(SIZE[::-1], np.uint8)
        every = coco.loadAnns(coco.getAnnIds(image))
        for one in [one for one in every if one["iscrowd"]] + [one for one in every if not one["iscrowd"]]:
            truth[coco.annToMask(one) == 1] = 255 if one["iscrowd"] else codes[one["category_id"]]
        np.testing.assert_array_equal(masks[name], truth)
    assert (masks["b"] == 255).any()
    text = "\n".join(summary.report(result))
    assert "note: 6 shapes of 1 COCO file drawn as masks, later shapes over earlier ones" in text
    assert "note: without a shape, all background: 1 image" in text


def test_categories_of_one_name_are_one_class_and_annotations_with_boxes_alone_are_counted(tmp_path: Path) -> None:
    content = instances([*ANNOTATIONS, {"image_id": 7, "category_id": 3, "segmentation": []}])
    content["categories"][0]["name"] = "dog"
    content["annotations"].append({"image_id": 7, "category_id": 3, "segmentation": [[1, 1, 5, 5]]})
    result, _ = converted(write(tmp_path / "mine", content))
    assert result.params.classes == ["background", "car", "dog"]
    assert result.warnings[0] == (
        "SKIPPED, because such shapes are not drawn: 1 × polygon of fewer than 3 points, 1 × box; their pixels are "
        "background"
    )


def test_void_categories_are_void_and_a_background_category_is_0(tmp_path: Path) -> None:
    content = instances(ANNOTATIONS[:2])
    content["categories"][1]["name"], content["categories"][2]["name"] = "Unlabeled", "background"
    result, masks = converted(write(tmp_path / "mine", content))
    assert (result.params.classes, result.params.void) == (["background", "tooth"], "255")
    assert masks["a"][3, 8] == 255  # in the triangle from 1,1 to 9.5,9.5, which was of the category 3


def test_a_file_for_each_split_gives_the_splits(tmp_path: Path) -> None:
    content = instances(ANNOTATIONS)
    parts: dict[str, str] = {}
    for split, chosen in (("train2017", content["images"][:1]), ("val2017", content["images"][1:])):
        ids = {image["id"] for image in chosen}
        listed = [one for one in content["annotations"] if one["image_id"] in ids]
        images = [image | {"file_name": f"{image['file_name']}"} for image in chosen]
        text = json.dumps(content | {"images": images, "annotations": listed})
        parts[f"annotations/instances_{split}.json"] = text
    folder = drawn(
        tmp_path / "mine", {"train2017/a.png": SIZE, "val2017/b.png": SIZE, "val2017/empty.png": SIZE}, parts
    )
    result, _ = converted(folder)
    assert result.parts == {"train": 1, "val": 2}
    assert result.params.fraction is None


def test_panoptic_segments_are_read_by_id_and_the_rest_is_void(tmp_path: Path) -> None:
    """The id is R + 256 G + 65536 B, https://cocodataset.org/#format-data."""
    numbers = np.zeros((4, 5), np.uint32)
    numbers[:2, :3], numbers[2:, :3], numbers[0, 4] = 5 + 256 * 7 + 65536 * 9, 300, 12
    rgb = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], 2).astype(np.uint8)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 5, "height": 4}],
        "categories": [{"id": 1, "name": "person"}, {"id": 187, "name": "grass"}],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "a.png",
                "segments_info": [
                    {"id": 300, "category_id": 1},
                    {"id": 5 + 256 * 7 + 65536 * 9, "category_id": 187},
                    {"id": 12, "category_id": 1, "iscrowd": 1},
                ],
            }
        ],
    }
    texts = {"annotations/panoptic_val.json": json.dumps(content)}
    folder = drawn(tmp_path / "mine", {"val/a.png": (5, 4), "annotations/panoptic_val/a.png": (1, 1)}, texts)
    Image.fromarray(rgb).save(folder / "annotations/panoptic_val/a.png")
    result, masks = converted(folder)
    assert masks["a"].tolist() == [
        [2, 2, 2, 255, 255],
        [2, 2, 2, 255, 255],
        [1, 1, 1, 255, 255],
        [1, 1, 1, 255, 255],
    ]
    assert (result.params.classes, result.params.void) == ([{"person": 1}, {"grass": 2}], "255")
    assert any("pixels without a shape are void" in note for note in result.notes)
    assert not any("without annotations" in note for note in result.notes)


RUNS = {"size": [37, 53]}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"image_id": 5}, " has the image_id '5', which is no image's"),
        ({"category_id": 5}, " has the category_id 5, which is no category's"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, " (car): a polygon has an odd number of coordinates"),
        ({"segmentation": [[1, 2, 3, 4, 5, -1e7]]}, " (car): the coordinate -1e+07 is far outside the image"),
        ({"segmentation": {"size": [53, 37], "counts": [1]}}, " (car): its runs are of 37x53, the image is 53x37"),
        ({"segmentation": RUNS | {"counts": [9]}}, " (car): its runs do not fill 53x37 pixels"),
        ({"segmentation": RUNS | {"counts": [-1, 1962]}}, " (car): its runs do not fill 53x37 pixels"),
        ({"segmentation": RUNS | {"counts": "é"}}, " (car): its compressed runs hold 'é'"),
        ({"segmentation": RUNS | {"counts": "o" * 50}}, " (car): its compressed runs hold 'o', or a number of more"),
        ({"segmentation": RUNS | {"counts": "oooooooooooo?" * 3}}, " (car): its runs do not fill 53x37 pixels"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_damaged_annotation_is_refused_in_one_line(change: dict[str, Any], error: str, tmp_path: Path) -> None:
    one = {"image_id": 7, "category_id": 3, "segmentation": [[1, 1, 9, 1, 9, 9]]} | change
    said = refusal(write(tmp_path / "mine", instances([one])))
    assert said.startswith(f"instances.json: annotation 1{error}")


def test_a_file_of_boxes_alone_is_not_taken_for_masks(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", instances([{"image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5]}]))
    for name in ("a", "b", "empty"):
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(blob(4)).save(folder / f"masks/{name}.png")
        (folder / "images").mkdir(exist_ok=True)
        (folder / f"{name}.png").rename(folder / f"images/{name}.png")
    result, _ = converted(folder)
    assert (result.params.masks, result.source) == ("masks/*", "")

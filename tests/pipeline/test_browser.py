"""MLflow's UI, the report and the plots in a real browser, without errors and without requests to other hosts."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import screenshots
from conftest import ROOT, Checkout
from mlflow_store import rows, stages_of
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
# Messages of MLflow itself: it asks for the current user, and a server without accounts returns 404; its grid logs the
# browser's warning on a layout that needs a second pass.
KNOWN = ("/ajax-api/2.0/mlflow/users/current)", "ResizeObserver loop completed")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with screenshots.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def link(shown: Checkout) -> Iterator[str]:
    with screenshots.served(shown.folder, shown.environment()) as link:
        yield link


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page that fails the test on an error or on a request to another host."""
    context = screenshots.visit(chromium)
    page, wrong = context.new_page(), []
    here = ("http://127.0.0.1:", "file://", "data:", "blob:")

    def note(text: str) -> None:
        if not any(known in text for known in KNOWN):
            wrong.append(text)

    page.on("request", lambda request: None if request.url.startswith(here) else note(request.url))
    page.on("pageerror", lambda error: note(str(error)))
    page.on(
        "console",
        lambda message: note(f"{message.text} ({message.location['url']})") if message.type == "error" else None,
    )
    yield page
    context.close()
    assert wrong == []


def test_the_link_opens_on_one_row_an_experiment_with_its_scores_in_four_digits_data_size_steps_and_rate(
    page: Page, link: str, shown: Checkout
) -> None:
    names = screenshots.open_table(page, link)
    assert sorted(names) == sorted(rows(shown))
    heads = ("fcn8s.mean_iu", "fcn16s.mean_iu", "fcn32s.mean_iu", "data", "data.size.train", "steps", "lr")
    shown_heads = [page.get_by_role("columnheader", name=head, exact=True).first for head in heads]
    places = [box["x"] for head in shown_heads if (box := head.bounding_box())]
    assert len(places) == len(heads)
    assert places == sorted(places)
    for name, run in rows(shown).items():
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
        # The grid pins the name column: each run has two row elements with the same index.
        halves = page.locator(f".ag-row[row-index='{row.get_attribute('row-index')}']").all_inner_texts()
        cells = [line.strip() for half in halves for line in half.split("\n")]
        for text in ("scenes", "32x32", "4 + 3 + 3", "0.001"):
            assert text in cells
        exact = json.loads(shown.read("metrics/scores.json"))["fcn8s"]["mean_iu"] if name != "lower" else None
        assert run.data.metrics["fcn8s.mean_iu"] == (round(exact, 4) if exact else run.data.metrics["fcn8s.mean_iu"])
        assert f"{run.data.metrics['fcn8s.mean_iu']:g}" in cells


def test_two_rows_are_compared_by_params_scores_and_curves(page: Page, link: str, shown: Checkout) -> None:
    screenshots.compare(page, screenshots.open_table(page, link)[:2])
    chosen = page.locator("[class*='select-selection-item-content']")  # a param with different values, and a metric
    assert chosen.all_inner_texts() == ["finetune.fcn8s.lr_factor", "finetune8s/val.mean_iu"]
    page.get_by_text("Show diff only").first.click()
    assert page.get_by_text("finetune.fcn8s.lr_factor").last.is_visible()
    assert page.get_by_text("fcn8s.mean_iu").last.is_visible()
    screenshots.open_curves(page, link)
    for name in rows(shown):
        assert page.get_by_text(f"{name} (finetune16s/loss)").first.is_visible()


def test_pictures_and_report_are_among_the_rows_artifacts(page: Page, link: str, shown: Checkout) -> None:
    base = link.split("/runs?")[0]
    run = rows(shown)["lower"].info.run_id
    page.goto(f"{base}/runs/{run}/artifacts")
    page.get_by_text("report.html").wait_for()
    page.get_by_text("figures", exact=True).click()
    page.get_by_text("predictions.png").click()
    picture = page.locator("img[src^='blob:'], img[src*='predictions.png']").first
    picture.wait_for()
    page.wait_for_function("image => image.naturalWidth > 100", arg=picture.element_handle())


def test_the_machines_vitals_are_charted_for_a_training_stage(page: Page, link: str, shown: Checkout) -> None:
    run = stages_of(shown, rows(shown)["lower"])["finetune8s"].info.run_id
    page.goto(f"{link.split('/runs?')[0]}/runs/{run}/system-metrics")
    page.get_by_text("cpu_utilization_percentage").first.wait_for()


def test_the_report_and_the_plots_open_without_a_network(page: Page, shown: Checkout) -> None:
    page.goto((shown.folder / "metrics/report.html").as_uri())
    assert page.get_by_role("img").count() == 15
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.get_by_role("heading", name="IU by class").is_visible()

    vega = ROOT / ".vega" / "vega.js"
    assert vega.is_file(), "make .vega/vega.js"
    assert "make plots" in shown.run("fcn", "plots", code=1)
    (shown.folder / ".vega").mkdir()
    shutil.copy2(vega, shown.folder / ".vega")
    printed = shown.run("fcn", "plots", "--out", ".fcn/plots")
    page.goto((shown.folder / printed.split()[-1]).as_uri())
    for title in ("Loss in training", "Mean IU on val", "IU by class"):
        page.get_by_text(title, exact=True).first.wait_for()
    assert page.locator("canvas, svg.marks").count() >= 3
    assert page.locator("img").count() == 15
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert "://" not in Path(shown.folder / ".fcn/plots/index.html").read_text().replace(
        "https://vega.github.io/schema/", ""
    )

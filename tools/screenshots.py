"""MLflow's pages in a real browser: what the browser tests open, and the pictures of README.

`python tools/screenshots.py FOLDER`, in a checkout with two experiments or more, writes them anew.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

WAIT = 120_000  # ms; a busy machine is slow, not broken
# MLflow opens a chat panel on the first visit; README's pictures are of the table behind it.
QUIET = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"');
"""


def executable() -> str:
    """The browser of this machine, by its path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise FileNotFoundError("no Chromium here; install it: apt-get install -y chromium")
    return found


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])


def visit(browser: Browser, width: int = 1500, height: int = 700) -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(WAIT)
    context.add_init_script(QUIET)
    return context


@contextlib.contextmanager
def served(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Runs `fcn ui` and gives the link that it prints once its server answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "fcn", "ui", "--port", str(port)]
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        link, printed = "", ""
        for line in process.stdout:
            printed += line
            link = link or next(iter(re.findall(r"experiments: (http\S+)", line)), "")
            if "Uvicorn running" in line:
                break
        assert link, printed
        yield link
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def open_table(page: Page, link: str) -> list[str]:
    """The experiments' table; returns the rows' names, newest first."""
    page.goto(link)
    rows = page.get_by_role("row").filter(has=page.get_by_role("link"))
    rows.nth(1).wait_for()
    return [row.get_by_role("link").first.inner_text() for row in rows.all()]


def compare(page: Page, names: list[str]) -> None:
    """From the table to MLflow's page that shows experiments side by side."""
    for name in names:
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
        row.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text(f"Comparing {len(names)} Runs").wait_for()


def open_curves(page: Page, link: str) -> None:
    """The experiments' curves in one plot for each stage and value."""
    page.goto(link.split("&viewStateShareKey")[0] + "&compareRunsMode=CHART")
    page.get_by_text("finetune16s/loss", exact=True).first.wait_for()
    page.locator(".js-plotly-plot .lines").first.wait_for(state="attached")


def main() -> None:
    out = Path(sys.argv[1])
    with served(Path(), dict(os.environ)) as link, browser() as chromium:
        page = visit(chromium, 1640, 520).new_page()
        names = open_table(page, link)
        page.wait_for_timeout(1000)  # until the columns have their widths
        page.screenshot(path=out / "mlflow-runs.png")
        compare(page, names[:2])
        for section in ("Visualizations", "Run details"):
            page.get_by_text(section, exact=True).click()
        page.get_by_text("Show diff only").first.click()
        page.set_viewport_size({"width": 1640, "height": 760})
        page.wait_for_timeout(1000)
        page.screenshot(path=out / "mlflow-compare.png")
        page.set_viewport_size({"width": 1640, "height": 1000})
        open_curves(page, link)
        page.wait_for_timeout(3000)  # until the last curve is drawn
        page.screenshot(path=out / "mlflow-curves.png")


if __name__ == "__main__":
    main()

"""README's commands leave nothing for git to pick up."""

import re

from conftest import ROOT


def test_git_ignores_the_masks_that_readme_has_predict_write() -> None:
    """A `git add --all`, which README advises too, would else commit them."""
    (out,) = re.findall(r"fcn predict \S+ --out (\S+)", (ROOT / "README.md").read_text())
    assert f"/{out}/" in (ROOT / ".gitignore").read_text().splitlines()

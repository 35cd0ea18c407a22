"""The nets that dvc.yaml offers to other projects."""

from pathlib import Path

import pytest
from conftest import Checkout

from fcn.ladder import LADDER
from fcn.runtime import files


@pytest.mark.slow
def test_dvc_artifacts_get_downloads_a_tagged_net_without_a_checkout(ready: Checkout, tmp_path: Path) -> None:
    here = Checkout.opened(tmp_path)
    for net in LADDER:
        ready.run("git", "tag", "--annotate", "--message", "first", f"{net.name}@v1.0.0")
        here.run("dvc", "artifacts", "get", str(ready.folder), net.name)
        original = ready.folder / "data" / "weights" / f"{net.name}.safetensors"
        assert files.sha256(tmp_path / original.name) == files.sha256(original)

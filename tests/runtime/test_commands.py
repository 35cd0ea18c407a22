"""git and DVC, when they work and when they refuse."""

from pathlib import Path

import pytest

from fcn.runtime import commands
from fcn.runtime.errors import UserError


def test_git_gives_its_output_or_none_if_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commands.git("rev-parse", "HEAD") is None
    assert commands.git("init", "--quiet") == b""
    assert commands.git("hash-object", "--stdin", stdin=b"hello\n") == b"ce013625030ba8dba906f756967f9e9ca394464a\n"


@pytest.mark.parametrize("capture", [True, False])
def test_dvc_fails_with_its_own_reason_in_one_line_unless_it_was_printed(
    capture: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        commands.dvc("status", capture=capture)
    message, printed = str(caught.value), capfd.readouterr().err
    assert message.startswith("`dvc status` failed (you are not inside of a DVC repository") == capture
    assert ("you are not inside of a DVC repository" in printed) != capture
    assert "\n" not in message


def test_dvc_gives_its_output() -> None:
    assert commands.dvc("--version").strip()[0].isdigit()

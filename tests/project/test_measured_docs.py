"""docs/reliability.md and docs/speed.md say what was measured."""

import json

import pytest
import tables


def test_the_tables_are_those_of_the_results() -> None:
    pages = [page.read_text() for page in tables.DOCS]
    assert all(f"<!-- {name} -->" in "".join(pages) for name in tables.TABLES)
    assert [tables.filled(page) for page in pages] == pages, "run `make readme`"


@pytest.mark.parametrize("name", tables.TABLES)
def test_what_is_on_record_is_without_a_finding(name: str) -> None:
    result = json.loads((tables.RESULTS / f"{name}.json").read_text())
    assert not result.get("differences")
    assert not result.get("wrong")
    assert not result.get("findings")
    assert not any(target.get("findings") for target in result.get("targets", {}).values())


def test_at_least_a_hundred_kills_are_on_record_and_every_stage_had_its_share() -> None:
    result = json.loads((tables.RESULTS / "torture.json").read_text())
    assert result["kills"] == len(result["each"]) >= 100
    assert all(sum(hit["meant"] == stage for hit in result["each"]) >= 10 for stage in tables.torture.STAGES)

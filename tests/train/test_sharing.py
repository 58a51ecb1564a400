"""Published networks come back from a local folder as they were; no network is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pure.records import RunRecord
from pure.train import fit, load_network

pytest.importorskip("huggingface_hub", reason="needs huggingface-hub, of the extra sharing")

from pure.train.sharing import SharedNetwork, model_card

OPTIONS = {"blocks": [1, 1], "widths": [4, 8], "variant": "v3"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    folder = tmp_path_factory.mktemp("shared") / "run"
    record = fit("digits", "pure20", out=folder, overrides={"epochs": 1}, model_options=OPTIONS, progress=False)
    return folder, record


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a test asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_a_run_s_network_is_published_and_read_back(finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    folder, _ = finished
    SharedNetwork.from_run(folder).save_pretrained(tmp_path / "published")
    again = SharedNetwork.from_pretrained(tmp_path / "published")
    _, network = load_network(folder)
    x = torch.randn(3, 1, 8, 8)
    assert not again.training
    assert torch.equal(again(x), network(x))
    assert json.loads((tmp_path / "published" / "config.json").read_text()) == {
        "model": "pure20",
        "num_classes": 10,
        "in_channels": 1,
        "options": OPTIONS,
    }
    assert (tmp_path / "published" / "model.safetensors").stat().st_size > 0


def test_the_card_says_what_the_record_says(finished: tuple[Path, RunRecord], tmp_path: Path) -> None:
    folder, record = finished
    SharedNetwork.from_run(folder).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.strip() == model_card(record).strip()
    assert record.test is not None
    for expected in (
        "# pure20 on digits",
        f"{100 * record.test.accuracy:.2f} %, one seed",
        f"{record.model.parameters:,} parameters",
        "variant=v3",
        "changed in epochs; 1 epochs, seed 0",
        f"{record.data.test:,} test images",
        str(record.weights_sha256),
    ):
        assert expected in card, expected
    with pytest.raises(ValueError, match="diverged has no tested weights"):
        model_card(record.model_copy(update={"test": None}))


def test_a_network_without_a_run_says_so(tmp_path: Path) -> None:
    shared = SharedNetwork("pure20", 5, options={"blocks": [1, 1, 1]})
    shared.save_pretrained(tmp_path)
    assert "No record says how it was trained." in (tmp_path / "README.md").read_text()
    again = SharedNetwork.from_pretrained(str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), shared.parameters(), strict=True))

"""What the pages about data sets share: their folder, what is documented, the noise against theory, the notice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pure.report import data_pages


def test_a_page_and_a_training_share_the_repositorys_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pure" / "data").mkdir(parents=True)
    (tmp_path / "notebooks" / "data").mkdir(parents=True)
    monkeypatch.delenv("PURE_DATA", raising=False)
    assert (
        data_pages.shared_root(tmp_path) == data_pages.shared_root(tmp_path / "notebooks" / "data") == tmp_path / "data"
    )
    monkeypatch.setenv("PURE_DATA", str(tmp_path / "elsewhere"))
    assert data_pages.shared_root(tmp_path) == tmp_path / "elsewhere"


def test_documented_counts_make_a_division_without_pixels() -> None:
    splits = data_pages.documented("made", ("a", "b"), train=[3, 1], test=[1, 2])
    assert splits.train.labels.tolist() == [0, 0, 0, 1]
    assert data_pages.division(splits)[["Part", "Images"]].to_numpy().tolist() == [
        ["train", "4"],
        ["test", "3"],
        ["together", "7"],
    ]


def test_notice_names_the_command_or_the_way_by_hand() -> None:
    assert "python -m pure.data cifar10 --data DIR --download" in data_pages.notice("cifar10", "nothing")
    notice = data_pages.notice("imagenet", "<b>")
    assert "--download" not in notice
    assert "ask for access" in notice
    assert "&lt;b&gt;" in notice


def test_noise_is_that_of_its_scale_whole_or_not() -> None:
    images = torch.full((1, 1, 64, 64), 100, dtype=torch.uint8)
    columns = data_pages.versions(images, scales=(4, 1), white=255)
    for scale in (4, 1):
        noisy = columns[f"noise, $s = {scale}$"]
        (level,) = data_pages.grey_levels(images, noisy, scale).to_dict("records")
        assert (level["level"], level["pixels"]) == (100, 4096)
        assert abs(level["standard_errors"]) < 5
        assert level["variance"] == pytest.approx(100 / scale, rel=0.1)

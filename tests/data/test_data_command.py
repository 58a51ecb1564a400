"""The registry of the data sets, and ``python -m pure.data``: what it prints and its exit codes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from pure import data
from pure.data import CATALOGUE, catalogue
from pure.data.__main__ import main
from pure.data.sets import imagenet
from pure.data.storage.root import data_root, user_cache, writable_folder

NAMES = [
    "digits",
    "fashion-mnist",
    "cifar10",
    "galaxy10",
    "galaxy10-synthetic",
    "deblending",
    "gz2",
    "imagenet",
    "image-folder",
    "mask-folder",
]


def write_tree(folder: Path) -> Path:
    """Two classes of grey squares, 3 images of each to train and 2 to test."""
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("left", "right")):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                image = np.full((8, 8, 3), 100 * label + number, dtype=np.uint8)
                Image.fromarray(image).save(folder / part / name / f"{number}.png")
    return folder


# The registry


def test_all_data_sets_are_listed_with_those_that_are_always_there_first() -> None:
    assert data.list_datasets() == NAMES


def test_unknown_names_and_options_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'cifar'; did you mean 'cifar10'\? known are digits, fash"):
        data.load("cifar")
    with pytest.raises(ValueError, match=r"unknown data set 'xyz'; known are digits, .*image-folder"):
        data.load("xyz")
    with pytest.raises(ValueError, match=r"'digits' has no option 'splitseed'; did you mean 'split_seed'\? it has spl"):
        data.load("digits", splitseed=1)
    with pytest.raises(ValueError, match="'cifar10' has no option 'x'; it has variant, test, holdout, split_seed, u"):
        data.load("cifar10", x=1)


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("digits", "split_seed", "abc", "input should be a valid integer, .*; its default is 0"),
        ("digits", "fractions", 0.5, r"input should be a valid tuple; its default is \(0.6, 0.2, 0.2\)"),
        ("digits", "fractions", (0.5, 0.5), "field required"),
        ("cifar10", "unreadable", "ignore", "input should be 'error' or 'skip'"),
        ("galaxy10-synthetic", "size", 64.5, "input should be a valid integer"),
    ],
)
def test_an_option_of_another_type_is_refused(name: str, option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^option '{option}' of data set '{name}' cannot be .*: {message}"):
        data.load(name, **{option: value})


def test_options_from_json_are_brought_to_their_type(tmp_path: Path) -> None:
    splits = data.load("digits", tmp_path, fractions=[0.6, 0.2, 0.2], split_seed=0)
    assert splits.fingerprint == data.digits().fingerprint
    assert [path.name for path in (tmp_path / "splits").iterdir()] == ["digits.json"]  # nothing but defaults


def test_options_are_those_of_the_data_sets_own_function() -> None:
    shared = {
        "crop": None,
        "size": None,
        "per_class": None,
        "per_class_seed": 0,
        "static_augmentation": None,
        "augmentation_seed": 0,
    }
    assert data.list_options("digits") == {"split_seed": 0, "fractions": (0.6, 0.2, 0.2), **shared}
    assert data.list_options("cifar10")["holdout"] == 0


def test_descriptions_are_complete() -> None:
    for name, each in CATALOGUE.items():
        assert each.name == name
        assert each.homepage.startswith("https://")
        assert each.licence
        assert each.citation
        assert callable(each.function), f"{each.loader} is not there"
        for target in filter(None, (each.download, each.verify)):
            assert callable(catalogue.imported(target)), f"{target} is not there"
    by_hand = [name for name, each in CATALOGUE.items() if each.by_hand]
    assert by_hand == ["gz2", "imagenet", "image-folder", "mask-folder"]


def test_described_numbers_are_those_that_the_loaders_check() -> None:
    from pure.data.sets import cifar10, galaxy10, imagenet

    assert CATALOGUE["cifar10"].images == 10 * sum(cifar10._PER_CLASS.values())
    assert CATALOGUE["galaxy10"].images == sum(galaxy10.COUNTS.values())
    assert CATALOGUE["imagenet"].classes == imagenet.CLASSES
    assert CATALOGUE["imagenet"].images == imagenet.TRAIN + imagenet.CLASSES * imagenet.VALIDATION_PER_CLASS
    splits = data.load("digits")
    assert CATALOGUE["digits"].images == sum(map(len, splits.parts.values()))


def test_importing_pure_loads_no_data_set() -> None:
    code = (
        "import sys, pure, pure.data\n"
        "print([name for name in ('h5py', 'galsim', 'matplotlib', 'pure.data.sets.cifar10') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_root_is_the_argument_else_the_variable_else_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PURE_DATA", raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv("PURE_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("elsewhere") == Path("elsewhere")
    assert data_root("~/sets") == Path.home() / "sets"


def without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number without a name."""
    import pwd

    def unknown(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_user_without_a_home_has_no_cache_and_reads_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_cache() == tmp_path / ".cache" / "pure"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert user_cache() == tmp_path / "caches" / "pure"
    without_a_home(monkeypatch)
    assert user_cache() is None
    with pytest.raises(ValueError, match="~/data begins with a home folder that this machine does not know"):
        data_root("~/data")
    write_tree(tmp_path)
    monkeypatch.setattr(imagenet, "check_counts", lambda *_: None)
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(data.load("imagenet", tmp_path).train) == 6


def test_writable_folder_is_the_first_that_really_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert writable_folder([tmp_path / "file" / "below", tmp_path / "a" / "b"]) == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []
    assert writable_folder([tmp_path / "file"]) is None


def test_divisions_are_written_where_there_is_a_root_and_only_there(tmp_path: Path) -> None:
    first = data.load("digits", tmp_path, split_seed=3)
    assert [file.name for file in (tmp_path / "splits").iterdir()] == ["digits-split_seed=3.json"]
    again = data.load("digits", tmp_path, split_seed=3)
    assert again.fingerprint == first.fingerprint
    assert again.statistics[0].tolist() == first.statistics[0].tolist()
    data.load("digits", tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_written_division_of_another_content_is_refused(tmp_path: Path) -> None:
    data.load("digits", tmp_path)
    path = tmp_path / "splits" / "digits.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match=r"'digits' is not the one that .*digits\.json divides"):
        data.load("digits", tmp_path)


def test_a_root_that_cannot_be_written_needs_no_division(tmp_path: Path) -> None:
    (tmp_path / "splits").touch()  # a file where the folder should be
    assert len(data.load("digits", tmp_path).train) == 1078


# The command


def test_without_a_name_it_lists_all_data_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "title", "images", "classes", "size", "there", "licence"]
    assert [line.split()[0] for line in lines[2:]] == NAMES
    assert main(["--list", "--root", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["cifar10"]["there"] is False
    assert rows["digits"]["there"] is True
    assert rows["galaxy10"]["images"] == 17736


def test_a_name_alone_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cifar10", "--root", str(tmp_path)]) == 3
    assert f"get it      python -m pure.data cifar10 --data {tmp_path} --download" in capsys.readouterr().out
    write_tree(tmp_path)
    assert main(["image-folder", "--root", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["there"] is True
    assert facts["found"] == [str(tmp_path / "train")]


def test_stats_are_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path)
    assert main(["image-folder", "--root", str(tmp_path), "--stats", "--data-option", "data_name=squares"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "squares"]
    assert "images       6 train, 4 test" in lines
    # grey levels 0, 1, 2 and 100, 101, 102: mean 51, variance 50^2 + 2/3
    assert "mean         51.0 51.0 51.0" in lines
    assert "std          50.0067 50.0067 50.0067" in lines
    assert lines[-4:] == ["class  train  test", "-----  -----  ----", "left       3     2", "right      3     2"]
    assert main(["image-folder", "--root", str(tmp_path), "--stats", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["balance"] == [{"class": "left", "train": 3, "test": 2}, {"class": "right", "train": 3, "test": 2}]
    assert len(facts["fingerprint"]) == 64


def test_stats_say_where_the_division_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digits", "--data", str(tmp_path), "--stats", "--data-option", "split_seed=3", "--json"]) == 0
    written = tmp_path / "splits" / "digits-split_seed=3.json"
    assert json.loads(capsys.readouterr().out)["division in"] == str(written)
    assert written.is_file()
    assert main(["digits", "--data", str(tmp_path / "absent"), "--stats"]) == 0
    assert "division in  -" in capsys.readouterr().out.splitlines()


def test_json_is_json_whatever_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path)
    (tmp_path / "train" / "left" / "1.png").write_bytes(b"broken")
    skip = ["--data-option", "unreadable=skip"]
    assert main(["image-folder", "--data", str(tmp_path), "--stats", "--json", *skip]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["images"] == {"train": 5, "test": 4}
    assert "left out 1 of 6 images that cannot be read: left/1.png" in printed.err


def test_a_flipped_byte_in_a_png_is_named_or_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path)
    path = tmp_path / "train" / "left" / "1.png"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    command = ["image-folder", "--data", str(tmp_path)]
    verify = [sys.executable, "-m", "pure.data", *command, "--verify"]  # apart: it used to end the process
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 1, verified.returncode
    assert f"cannot read 1 of 10 images: {path} (" in verified.stderr
    skip = ["--stats", "--json", "--data-option", "unreadable=skip"]
    assert main([*command, *skip]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == {"train": 5, "test": 4}


def test_the_old_name_of_an_option_is_answered_with_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["digits", "--stats", "--option", "split_seed=1"])
    assert "--option is called --data-option, as in pure.train: --data-option split_seed=1" in capsys.readouterr().err


def test_verify_reads_every_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digits", "--root", str(tmp_path), "--verify"]) == 0
    assert "all 1,797 images can be read (1,078 train, 359 validation, 360 test)" in capsys.readouterr().out
    write_tree(tmp_path)
    assert main(["image-folder", "--root", str(tmp_path), "--verify"]) == 0
    capsys.readouterr()
    for name in ("train/left/1.png", "test/right/0.png"):
        (tmp_path / name).write_bytes(b"\x89PNG broken")
    assert main(["image-folder", "--root", str(tmp_path), "--verify"]) == 1
    error = capsys.readouterr().err
    assert "left/1.png" in error
    assert "right/0.png" in error
    assert "2 of" in error


def test_what_is_not_there_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("--stats", "--verify"):
        assert main(["cifar10", "--root", str(tmp_path), action]) == 3
        error = capsys.readouterr().err
        assert error.startswith(f"python -m pure.data: CIFAR-10 is not in {tmp_path} (looked for ")
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "unknown data set 'digit'; did you mean 'digits'?"),
        (["digits", "--stats", "--data-option", "split_seed"], "--data-option expects NAME=VALUE, got 'split_seed'"),
        (
            ["digits", "--stats", "--data-option", "seed=1"],
            "'digits' has no option 'seed'; it has split_seed, fractions",
        ),
        (
            ["digits", "--stats", "--data-option", "fractions=0.5"],
            "option 'fractions' of data set 'digits' cannot be 0.5: in",
        ),
        (["imagenet", "--download"], "cannot be downloaded by a program: ask for access at https://image-net.org"),
        (
            ["cifar10", "--verify", "--data-option", "holdout=2"],
            "--verify of cifar10 reads all files: it takes no option",
        ),
    ],
)
def test_a_wrong_command_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--root", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["digits"], ["fashion-mnist", "--download"], ["--list"]])
def test_an_option_is_not_ignored_where_it_has_no_effect(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--data-option", "split_seed=1"])
    assert ended.value.code == 2
    assert "--data-option goes with the --stats or --verify of a data set" in capsys.readouterr().err


def test_download_calls_the_data_sets_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pure.data.sets import fashion_mnist

    monkeypatch.setattr(fashion_mnist, "download", lambda root: root / "FashionMNIST" / "raw")
    assert main(["fashion-mnist", "--root", str(tmp_path), "--download"]) == 0
    assert capsys.readouterr().out == f"Fashion-MNIST is in {tmp_path}/FashionMNIST/raw; check it with --verify\n"
    assert main(["digits", "--root", str(tmp_path), "--download"]) == 0
    assert "needs no download" in capsys.readouterr().out


@pytest.mark.parametrize("raised", [URLError("no route to host"), RuntimeError("Tried it, got:\nno route to host\n")])
@pytest.mark.parametrize(
    ("name", "torchvisions", "folder"),
    [("cifar10", "CIFAR10", "cifar-10-batches-py"), ("fashion-mnist", "FashionMNIST", "FashionMNIST/raw")],
)
def test_a_server_that_cannot_be_reached_is_named_and_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    name: str,
    torchvisions: str,
    folder: str,
) -> None:
    def fail(root: Path, download: bool) -> None:
        raise raised

    module = importlib.import_module(f"pure.data.sets.{name.replace('-', '_')}")
    dataset = getattr(module, torchvisions)
    for attribute in ("url", "base_folder", "mirrors"):
        monkeypatch.setattr(fail, attribute, getattr(dataset, attribute, None), raising=False)
    monkeypatch.setattr(module, torchvisions, fail)
    assert main([name, "--root", str(tmp_path), "--download"]) == 4
    address = dataset.url if torchvisions == "CIFAR10" else dataset.mirrors[0]
    assert capsys.readouterr().err == (
        f"python -m pure.data: cannot download {data.describe(name).title} from {address} (no route to host); check "
        f"the network and try again, or get the files elsewhere and put them into {tmp_path / folder}\n"
    )


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (OSError(28, "No space left on device"), 4),
        (ConnectionError("cannot download CIFAR-10"), 4),
        (ImportError("No module named 'h5py'"), 4),
        (ValueError("the server's file has another checksum"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failed_downloads_have_exit_codes_and_no_traceback(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
) -> None:
    from pure.data.sets import cifar10

    def fail(root: Path) -> Path:
        raise raised

    monkeypatch.setattr(cifar10, "download", fail)
    assert main(["cifar10", "--root", str(tmp_path), "--download"]) == code
    assert str(raised) in capsys.readouterr().err


def test_imagenette_does_not_pass_for_imagenet(tmp_path: Path) -> None:
    (tmp_path / "train" / "n01440764").mkdir(parents=True)  # tench, the first class of both
    assert main(["imagenet", "--root", str(tmp_path)]) == 3
    (tmp_path / "train" / "n01443537").mkdir()
    assert main(["imagenet", "--root", str(tmp_path)]) == 0

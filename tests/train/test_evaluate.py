"""Protocols against values worked out by hand; scores that depend neither on batches nor on ranks; measures."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics.functional import accuracy
from torchvision.transforms.v2 import functional as transforms

from pure import create_model
from pure.data.images import Images, ImageSet
from pure.data.protocols import PROTOCOLS, Protocol
from pure.records import Evaluation
from pure.train import evaluate as module
from pure.train.evaluate import Views, evaluate, measure

RAW = torch.zeros(2), torch.ones(2)  # statistics that leave two channels as they are


class Numbered(Dataset):
    """Images of several sizes whose two channels hold the row and the column, so that a pixel tells where it was."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.sizes = sizes
        self.labels = torch.arange(len(sizes)) % 3
        self.digest, self.shape = "numbered", None

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        height, width = self.sizes[index]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        return torch.stack([y, x]).to(torch.uint8), int(self.labels[index])


class Pixelwise(nn.Module):
    """Logits that are linear per position: a 1x1 convolution, the mean over the map, a linear layer."""

    def __init__(self, channels: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 1)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.conv(x)).flatten(1))


def corner(view: Tensor) -> tuple[int, int]:
    """Row and column of the upper left pixel of a piece of a numbered image, whose pixels must follow on it."""
    y, x = (int(value) for value in view[:, 0, 0])
    rows, columns = torch.meshgrid(
        torch.arange(y, y + view.shape[1]), torch.arange(x, x + view.shape[2]), indexing="ij"
    )
    assert torch.equal(view, torch.stack([rows, columns]).to(torch.uint8))
    return y, x


# Names


@pytest.mark.parametrize("name", [*PROTOCOLS, "single-crop(144,128)", "ten-crop(9,9)", "multi-scale(128,160)"])
def test_names_go_there_and_back(name: str) -> None:
    assert str(Protocol.parse(name)) == name


def test_sizes_of_their_own_are_named_only_if_they_differ() -> None:
    assert str(Protocol.parse("single-crop(256, 224)")) == "single-crop"
    assert Protocol.parse("multi-scale").sizes == (224, 256, 384, 480, 640)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "10-crop",
            r"unknown protocol '10-crop'; expected one of whole, single-crop, ten-crop, multi-scale, ",
        ),
        ("single-crop(144", r"unknown protocol"),
        ("whole(32)", r"'whole' takes the images as they are, without sizes; got 'whole\(32\)'"),
        ("single-crop(224,256)", r"single-crop expects the shorter side and a crop that fits into it, got"),
        ("ten-crop(256)", r"ten-crop expects the shorter side and a crop"),
        ("ten-crop(8,0)", r"ten-crop expects"),
        ("multi-scale(224,224)", r"one or more different sizes of at least 1 pixel, got"),
        ("multi-scale(0,1)", r"one or more different sizes"),
        ("multi-scale(,)", r"one or more different sizes"),
    ],
)
def test_wrong_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Protocol.parse(name)


# Views


def test_single_crop_is_the_centre() -> None:
    image, _ = Numbered((8, 14))[0]
    (view,) = Protocol.parse("single-crop(8,4)").views(image)
    assert view.shape == (2, 4, 4)
    assert corner(view) == (2, 5)


def test_ten_crops_are_corners_and_centre_of_the_central_square() -> None:
    image, _ = Numbered((8, 14))[0]  # columns 3 to 10 are the central square
    views = Protocol.parse("ten-crop(8,4)").views(image)
    assert [view.shape for view in views] == [(2, 4, 4)] * 5
    assert [corner(view) for view in views] == [(0, 3), (0, 7), (4, 3), (4, 7), (2, 5)]


def test_views_of_many_are_those_of_each() -> None:
    images = torch.randint(0, 256, (3, 3, 17, 23), dtype=torch.uint8)
    for name in ("whole", "single-crop(12,8)", "ten-crop(12,8)", "multi-scale(8,12,20)"):
        protocol = Protocol.parse(name)
        one_by_one = [protocol.views(image) for image in images]
        for number, view in enumerate(protocol.views(images)):
            assert torch.equal(view, torch.stack([views[number] for views in one_by_one]))


def test_scales_are_of_the_shorter_side() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 4, 16).repeat(3, 1, 1)
    views = Protocol.parse("multi-scale(2,4,8)").views(image)
    assert [tuple(view.shape) for view in views] == [(3, 2, 8), (3, 4, 16), (3, 8, 32)]
    assert torch.equal(views[1], image)
    tall = Protocol.parse("multi-scale(2)").views(image.transpose(1, 2))[0]
    assert torch.equal(tall, views[0].transpose(1, 2))


# Scores


def test_whole_images_give_the_networks_logits() -> None:
    network = create_model("pure20", num_classes=4, blocks=[1, 1, 1])
    images = ImageSet(torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8), torch.arange(7) % 4)
    statistics = torch.tensor([100.0, 110.0, 120.0]), torch.tensor([50.0, 60.0, 0.0])
    scores = evaluate(network, images, statistics, batch_size=3)
    mean, std = (values.view(3, 1, 1) for values in (statistics[0], torch.tensor([50.0, 60.0, 1.0])))
    with torch.no_grad():
        expected = network.eval()((images.images.float() - mean) / std)
    assert torch.allclose(scores, expected, rtol=1e-5, atol=1e-5)
    assert not scores.is_inference()


def test_ten_crops_average_the_softmax_outputs() -> None:
    network, images = Pixelwise(), Numbered((8, 14), (10, 8))
    scores = evaluate(network, images, RAW, "ten-crop(8,4)")
    for i, places in enumerate([[(0, 3), (0, 7), (4, 3), (4, 7), (2, 5)], [(1, 0), (1, 4), (5, 0), (5, 4), (3, 2)]]):
        crops = torch.stack([images[i][0][:, y : y + 4, x : x + 4] for y, x in places]).float()
        shown = torch.cat([crops, crops.flip(-1)])
        assert torch.allclose(scores[i].exp(), network(shown).softmax(1).mean(0), atol=1e-6)


def test_a_left_and_a_right_that_agree_on_nothing_give_one_half() -> None:
    class Left(nn.Module):
        """Certain of class 0 where the left half is brighter, of class 1 where the right one is."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(100.0))

        def forward(self, x: Tensor) -> Tensor:
            left, right = x.mean(1).chunk(2, dim=-1)
            brighter = self.scale * (left.mean((1, 2)) - right.mean((1, 2)))
            return torch.stack([brighter, -brighter], dim=1)

    images = Numbered((8, 8))
    assert evaluate(Left(), images, RAW, "whole").argmax().item() == 1
    scores = evaluate(Left(), images, RAW, "ten-crop(8,8)")
    assert torch.allclose(scores, torch.full((1, 2), math.log(0.5)))


def test_multi_scale_is_the_network_at_every_place_of_its_window() -> None:
    network, images = Pixelwise(), Numbered((6, 9), (8, 6))
    scores = evaluate(network, images, RAW, "multi-scale(4,6,7)")
    for i in range(2):
        outputs = []
        for size in (4, 6, 7):
            image = transforms.resize(images[i][0], [size], antialias=True).float()
            for shown in (image, image.flip(-1)):
                _, height, width = shown.shape
                places = [(y, x) for y in range(height - 3) for x in range(width - 3)]
                windows = torch.stack([shown[:, y : y + 4, x : x + 4] for y, x in places])
                outputs.append(network(windows).mean(0).softmax(0))  # logits over places, then softmax over views
        assert torch.allclose(scores[i].exp(), torch.stack(outputs).mean(0), atol=1e-6)


@pytest.mark.parametrize("name", ["pure18", "resnet18", "resnet20", "preact_resnet110"])
def test_multi_scale_at_the_training_size_is_the_network_itself(name: str) -> None:
    options = {} if name in ("pure18", "resnet18") else {"blocks": [1, 1, 1]}
    network = create_model(name, num_classes=3, **options).eval()
    images = ImageSet(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.tensor([0, 1]))
    statistics = torch.full((3,), 128.0), torch.full((3,), 64.0)
    scores = evaluate(network, images, statistics, "multi-scale(64)")
    with torch.no_grad():
        x = (images.images.float() - 128) / 64
        expected = (network(x).softmax(1) + network(x.flip(-1)).softmax(1)) / 2
    assert torch.allclose(scores.exp(), expected, atol=1e-5)


@pytest.mark.parametrize("protocol", ["whole", "single-crop(36,32)", "ten-crop(36,32)", "multi-scale(32,48)"])
def test_scores_depend_neither_on_batches_nor_on_ranks_nor_on_workers(protocol: str) -> None:
    network = create_model("pure20", num_classes=3, in_channels=2, blocks=[1, 1, 1])
    images = Numbered(*[(32 + 2 * (i % 3), 40 - 4 * (i % 4)) for i in range(11)])
    whole = evaluate(network, images, RAW, protocol)
    assert whole.shape == (11, 3)
    for batch_size, workers in ((1, 0), (4, 0), (3, 1)):
        again = evaluate(network, images, RAW, protocol, batch_size=batch_size, workers=workers)
        assert torch.allclose(again, whole, rtol=1e-4, atol=1e-4)
    parts = [evaluate(network, images, RAW, protocol, rank=rank, world_size=3) for rank in range(3)]
    for rank, part in enumerate(parts):
        assert torch.allclose(part, whole[rank::3], rtol=1e-4, atol=1e-4)
    assert sum(len(part) for part in parts) == 11


def test_a_rank_without_images_gives_none() -> None:
    scores = evaluate(Pixelwise(), Numbered((4, 4)), RAW, rank=1, world_size=2)
    assert tuple(scores.shape) == (0, 3)


def test_no_more_is_shown_at_once_than_was_asked_for() -> None:
    shown: list[tuple[int, ...]] = []
    network = Pixelwise()
    network.register_forward_pre_hook(lambda _, inputs: shown.append(tuple(inputs[0].shape)))
    images = Numbered(*[(16, 16)] * 12)
    evaluate(network, images, RAW, "multi-scale(8,16,24)", batch_size=9)
    # Pixels of 9 images of 8 x 8: 9 such images at once, 2 of 16 x 16, 1 of 24 x 24; read 2 * 9 / (1 + 4 + 9) at once.
    assert {h: max(n for n, _, height, _ in shown if height == h) for h in (8, 16, 24)} == {8: 2, 16: 2, 24: 1}
    shown.clear()
    evaluate(network, images, RAW, "ten-crop(16,8)", batch_size=3)
    assert {tuple(shape) for shape in shown} == {(2, 2, 8, 8)}  # read 2 * 3 / 5 at once, rounded up
    assert len(shown) == 12 // 2 * 10
    shown.clear()
    evaluate(network, images, RAW, "single-crop(16,8)", batch_size=5)
    assert [tuple(shape) for shape in shown] == [(5, 2, 8, 8), (5, 2, 8, 8), (2, 2, 8, 8)]


@pytest.mark.parametrize("same", [True, False], ids=["of one shape", "of several"])
def test_large_images_are_read_and_shown_a_few_at_once(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3 * 20**2)
    shown: list[tuple[int, ...]] = []
    network = Pixelwise()
    network.register_forward_pre_hook(lambda _, inputs: shown.append(tuple(inputs[0].shape)))
    images: Images = Numbered(*[(20, 20)] * 7)
    if same:
        images = ImageSet(torch.stack([images[row][0] for row in range(7)]), images.labels)
    protocol = Protocol.parse("whole")
    assert module.read_at_once(images, protocol, 256) == 3
    scores = evaluate(network, images, RAW)
    assert [shape[0] for shape in shown] == [3, 3, 1]
    monkeypatch.undo()
    torch.testing.assert_close(evaluate(network, images, RAW), scores)
    assert module.read_at_once(images, protocol, 256) == 256  # small ones as ever
    assert module.shown_at_once(torch.zeros(1, 3, 1200, 1200), protocol, 256) == 2
    assert module.shown_at_once(torch.zeros(1, 3, 112, 112), protocol, 256) == 256
    assert module.shown_at_once(torch.zeros(1, 3, 9000, 9000), protocol, 256) == 1


def test_sets_that_read_many_at_once_are_asked_to() -> None:
    class Reader(ImageSet):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            raise AssertionError("one by one")

    images = Reader(torch.randint(0, 256, (5, 2, 4, 4), dtype=torch.uint8), torch.arange(5) % 3)
    network = Pixelwise()
    assert torch.allclose(evaluate(network, images, RAW), network(images.images.float()), atol=1e-4)


def test_modes_and_hooks_are_restored_even_after_an_error() -> None:
    network = create_model("pure20", num_classes=3, in_channels=2, blocks=[1, 1, 1]).train()
    network.bn1.eval()  # frozen on purpose
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    evaluate(network, Numbered((40, 33)), RAW, "multi-scale(32,40)")
    with pytest.raises(ValueError, match="too small"):
        evaluate(network, Numbered((2, 2)), RAW)
    assert network.training
    assert network.layer1.training
    assert not network.bn1.training
    assert not network.avgpool._forward_hooks
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())


def test_autocast_computes_in_the_given_type_and_answers_in_single_precision() -> None:
    seen: list[torch.dtype] = []
    network = Pixelwise()
    network.conv.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    images = Numbered((9, 9), (12, 9))
    for protocol in ("whole", "multi-scale(8,10)"):
        full = evaluate(network, images, RAW, protocol)
        assert set(seen) == {torch.float32}
        seen.clear()
        half = evaluate(network, images, RAW, protocol, dtype=torch.bfloat16)
        assert set(seen) == {torch.bfloat16}
        seen.clear()
        assert half.dtype == torch.float32
        assert torch.allclose(half, full, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, r"a batch size of at least 1 .* batch_size=0"),
        ({"rank": 2, "world_size": 2}, r"rank below the number of processes, got 1 images, .* rank=2, world_size=2"),
        ({"protocol": "nine-crop"}, r"unknown protocol 'nine-crop'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(Pixelwise(), Numbered((4, 4)), RAW, **arguments)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected images, .* got 0 images"):
        evaluate(Pixelwise(), Numbered(), RAW)


def test_multi_scale_refuses_a_network_of_another_form() -> None:
    network = Pixelwise()
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    with pytest.raises(ValueError, match=r"multi-scale needs .* `avgpool`, .* `fc`; Pixelwise does not; use another"):
        evaluate(network, Numbered((4, 4)), RAW, "multi-scale(4)")
    with pytest.raises(ValueError, match=r"Conv2d does not"):
        evaluate(nn.Conv2d(2, 2, 1), Numbered((4, 4)), RAW, "multi-scale(4)")


def test_what_workers_receive_can_be_pickled() -> None:
    views = pickle.loads(pickle.dumps(Views(Numbered((8, 14)), torch.tensor([0]), Protocol.parse("ten-crop(8,4)"))))
    number, groups = views.__getitems__([0])
    assert (number, len(groups)) == (1, 5)


# Measures


def samples(found: Evaluation) -> int:
    assert found.confusion is not None
    return sum(map(sum, found.confusion))


def test_measures_by_hand() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    found = measure(probabilities.log(), torch.tensor([0, 2, 1, 1]))
    assert found.loss == pytest.approx(-math.log(0.5 * 0.7 * 0.3 * 0.5) / 4, rel=1e-6)
    assert (found.accuracy, found.top5, samples(found)) == (0.75, None, 4)
    assert found.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 1))


def test_top5_has_a_meaning_above_five_classes() -> None:
    scores = torch.arange(6.0).repeat(6, 1)  # class 5 is first, class 0 last
    found = measure(scores, torch.arange(6))
    assert (found.accuracy, found.top5) == (1 / 6, 5 / 6)
    assert measure(scores[:, :5], torch.arange(5).repeat(2)[:6]).top5 is None


def test_measures_are_those_of_torchmetrics_and_torch() -> None:
    scores, labels = torch.randn(97, 11), torch.randint(11, (97,))
    found = measure(scores, labels)
    assert found.loss == pytest.approx(F.cross_entropy(scores.double(), labels).item(), rel=1e-14)
    for k, ours in ((1, found.accuracy), (5, found.top5)):
        theirs = accuracy(scores, labels, task="multiclass", num_classes=11, average="micro", top_k=k)
        assert ours == pytest.approx(theirs.item(), rel=1e-6)
        assert (97 * ours).is_integer() or abs(97 * ours - round(97 * ours)) < 1e-13  # not rounded to float32
    assert samples(found) == 97


def test_scores_that_are_not_finite_spoil_the_loss() -> None:
    scores = torch.zeros(4, 6)
    scores[1, 2], scores[3, 0] = torch.nan, torch.inf
    found = measure(scores, torch.tensor([0, 1, 2, 3]))
    assert math.isnan(found.loss)
    assert samples(found) == 4


def test_measures_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"expected scores \(n, classes\) .* got shapes \(3, 2\) and \(2,\)"):
        measure(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"at least one image, got none"):
        measure(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def _rank(rank: int, folder: str) -> None:
    """A process of two: evaluates its part by a network under DDP, and measures with the other."""
    os.environ.update(MASTER_ADDR="localhost", GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    network = create_model("resnet20", num_classes=6, in_channels=2, blocks=[1, 1, 1])
    network = nn.parallel.DistributedDataParallel(network)
    results = []
    for number in (7, 1):
        images = Numbered(*[(8 + i, 8) for i in range(number)])
        network.module.bn1.num_batches_tracked.fill_(rank)
        scores = evaluate(network, images, RAW, batch_size=1, rank=1 - rank, world_size=2)
        assert network.module.bn1.num_batches_tracked == rank  # nothing was exchanged
        results.append((len(scores), measure(scores, images.labels[1 - rank :: 2], synchronize=True)))
    pair = Numbered((8, 8), (9, 9))
    apart = measure(evaluate(network, pair, RAW, rank=rank, world_size=2), pair.labels[rank::2])
    results.append((1, apart))
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # forked, since importing all again takes 20 s
def test_two_ranks_measure_as_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert [number for number, _ in first] == [3, 0, 1]  # the second time this rank has nothing
    assert [number for number, _ in second] == [4, 1, 1]
    torch.manual_seed(0)
    network = create_model("resnet20", num_classes=6, in_channels=2, blocks=[1, 1, 1])
    for i, number in enumerate((7, 1)):
        images = Numbered(*[(8 + i, 8) for i in range(number)])
        expected = measure(evaluate(network, images, RAW, batch_size=1), images.labels)
        for _, found in (first[i], second[i]):
            assert found.loss == pytest.approx(expected.loss, rel=1e-5)
            assert (found.accuracy, found.top5, samples(found)) == (expected.accuracy, expected.top5, number)
            assert found.confusion == expected.confusion
    assert [samples(each[2][1]) for each in (first, second)] == [1, 1]  # not synchronised

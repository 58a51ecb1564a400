"""Networks for Hugging Face's hub, and from it: ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

The extra ``sharing`` brings what this needs.  A folder on this machine is as good as a repository on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pure.extras import require_extra
from pure.models import create_model
from pure.records import RunRecord

require_extra("sharing", "sharing networks", "huggingface_hub", "safetensors")

from huggingface_hub import ModelCard, PyTorchModelHubMixin  # noqa: E402  asked for first

__all__ = ["SharedNetwork", "model_card"]


class SharedNetwork(nn.Module, PyTorchModelHubMixin):
    """A network by name that can be published and read back.

    ::

        shared = SharedNetwork.from_run("results/digits/pure20/seed0")
        shared.save_pretrained("published")  # or shared.push_to_hub("someone/pure20-digits")
        network = SharedNetwork.from_pretrained("published")

    Args:
        model: one of :func:`pure.list_models`.
        num_classes: length of the output.
        in_channels: channels of the input images.
        options: of :func:`pure.create_model`.

    Attributes:
        network: the network itself.
        card: the text of the model card that is published with it.
    """

    def __init__(
        self, model: str, num_classes: int, in_channels: int = 3, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.network = create_model(model, num_classes, in_channels, **(options or {}))
        self.card = f"---\nlibrary_name: pure-networks\n---\n\n# {model}\n\nNo record says how it was trained.\n"

    @classmethod
    def from_run(cls, folder: Path | str) -> SharedNetwork:
        """A finished run's network, in evaluation mode, with a card made from its record.

        Raises:
            FileNotFoundError, ValueError: as :func:`pure.train.load_network`.
        """
        from pure.train.fitting import load_network

        record, network = load_network(folder)
        options = {
            name: list(value) if isinstance(value, tuple) else value for name, value in record.model.options.items()
        }
        shared = cls(
            model=record.model.name,
            num_classes=len(record.data.classes),
            in_channels=len(record.data.mean),
            options=options,
        )
        shared.network.load_state_dict(network.state_dict())
        shared.card = model_card(record)
        return shared.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, in_channels, H, W)`` to logits ``(N, num_classes)``."""
        return self.network(x)  # type: ignore[no-any-return]

    def generate_model_card(self, *_args: Any, **_kwargs: Any) -> ModelCard:
        """The card that the mixin publishes."""
        return ModelCard(self.card)


def model_card(record: RunRecord) -> str:
    """What a reader of published weights has to know, from the run's record: Markdown under a YAML head."""
    if record.test is None:
        raise ValueError("a training that diverged has no tested weights to publish")
    data, ran = record.data, record.environment
    options = "".join(f", {name}={value}" for name, value in sorted(record.model.options.items()))
    changed = f", changed in {', '.join(record.overrides)}" if record.overrides else ""
    images = "simulated images" if data.synthetic else "images"
    rows = {
        "Network": f"`{record.model.name}`{options}, {record.model.parameters:,} parameters",
        "Classes": ", ".join(data.classes) if len(data.classes) <= 20 else str(len(data.classes)),
        "Data": f"{data.name}: {data.train:,} training, {data.validation:,} validation, {data.test:,} test {images}",
        "Recipe": f"{record.recipe.name}{changed}; {len(record.epochs)} epochs, seed {record.seed}",
        "Tested": f"the weights of epoch {record.selected}, once",
        "Test accuracy": f"{100 * record.test.accuracy:.2f} %, one seed",
        "Normalisation": f"mean {_numbers(data.mean)}, deviation {_numbers(data.std)}, of grey levels 0 to 255",
        "Trained on": f"{ran.device_name}, PyTorch {ran.torch}",
        "Commit": f"`{ran.commit}`",
        "SHA-256 of the weights file": f"`{record.weights_sha256}`",
    }
    head = (
        "---\nlibrary_name: pure-networks\nlicense: bsd-3-clause\ntags:\n- product-units\n- image-classification\n---\n"
    )
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    use = (
        "```python\nfrom pure.train.sharing import SharedNetwork\n\n"
        'network = SharedNetwork.from_pretrained("path or name of this repository")\n```'
    )
    return (
        f"{head}\n# {record.model.name} on {data.name}\n\n| | |\n|:---|:---|\n{table}\n\n## Use\n\n{use}\n\n"
        "Give it images with the normalisation above. One run tells nothing of the spread over seeds; on other images "
        "than those of the data set nothing was measured.\n"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in values) + ")"

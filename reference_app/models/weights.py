"""Where weights come from: this checkout, the Hugging Face hub, a folder, or a seed.

Rule: whatever the source, one code path loads them, safetensors only, nothing unpickled; only `hub`
touches the network.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    T5Config,
)

from reference_app.results import ModelInfo, Source, Task

__all__ = ["BUNDLED", "ModelUnavailableError", "Weights", "load_weights"]

BUNDLED: Final = Path(__file__).parents[1] / "bundled"

# transformers types few of these; past this table everything is a Weights.
_AUTO: Final[dict[Task, Any]] = {
    "sentiment": AutoModelForSequenceClassification,
    "summarize": AutoModelForSeq2SeqLM,
    "answer": AutoModelForQuestionAnswering,
}
_HUB: Final[dict[Task, str]] = {
    "sentiment": "distilbert-base-uncased-finetuned-sst-2-english",
    "summarize": "t5-small",
    "answer": "distilbert-base-cased-distilled-squad",
}
_SEED: Final = 0
_SMALL: Final = 10_000_000  # Parameters; the bundled models have a million, those of the hub sixty.


class ModelUnavailableError(RuntimeError):
    """The weights cannot be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model in eval mode with its tokenizer."""

    model: Any
    tokenizer: Any
    info: ModelInfo

    @property
    def is_small(self) -> bool:
        """Of the bundled models' size, and so trained on what they were trained on."""
        return self.info.parameters < _SMALL


def load_weights(task: Task, source: str) -> Weights:
    """Load a model and its tokenizer.

    Args:
        task: What the model is to do.
        source: `bundled`, `hub`, `random`, or the path of a folder with a folder for each task.

    Raises:
        ModelUnavailableError: a file is missing or the hub cannot be reached.
    """
    started = time.perf_counter()
    kind = _kind(source)
    device = "cpu" if kind == "bundled" or not torch.cuda.is_available() else "cuda"
    model, tokenizer = _seeded(task) if kind == "random" else _pretrained(task, source)
    model = model.to(device).eval()
    info = ModelInfo(
        task=task,
        name=_name(task, source),
        version=_seed_digest(model) if kind == "random" else _weights_digest(model),
        source=kind,
        parameters=sum(weight.numel() for weight in model.parameters()),
        device=device,
        load_seconds=time.perf_counter() - started,
    )
    return Weights(model, tokenizer, info)


def _kind(source: str) -> Source:
    match source:
        case "bundled" | "hub" | "random":
            return source
        case _:
            return "folder"


def _name(task: Task, source: str) -> str:
    match _kind(source):
        case "hub":
            return _HUB[task]
        case "folder":
            return f"{Path(source).name}-{task}"
        case kind:
            return f"{kind}-{task}"


def _place(task: Task, source: str) -> str:
    match _kind(source):
        case "hub":
            return _HUB[task]
        case "folder":
            return str(Path(source) / task)
        case _:
            return str(BUNDLED / task)


def _pretrained(task: Task, source: str) -> tuple[Any, Any]:
    name = _place(task, source)
    auto_tokenizer: Any = AutoTokenizer
    try:
        # float32 also where the file holds float16: a CPU computes faster with it.
        model = _AUTO[task].from_pretrained(name, dtype=torch.float32, use_safetensors=True)
        return model, auto_tokenizer.from_pretrained(name)
    # A path that is not there is taken for a name on the hub, and an odd one is no name.
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(_advice(task, source)) from error


def _advice(task: Task, source: str) -> str:
    match _kind(source):
        case "hub":
            return (
                f"cannot load {_HUB[task]!r} from the Hugging Face hub or its cache: is the"
                " network there? MODELS=bundled uses the small models of this checkout instead"
            )
        case "folder":
            return f"cannot load a model from the folder {_place(task, source)!r}"
        case _:
            return (
                f"the bundled model {task!r} is missing; `python -m reference_app.training {task}`"
            )


def _seeded(task: Task) -> tuple[Any, Any]:
    """Make the hub's architecture at full size, with random weights.

    The tokenizer is the bundled one, whose ids all lie within the larger vocabulary. Its words are
    split more finely, so that a text costs rather more than with the real tokenizer.
    """
    _, tokenizer = _pretrained(task, "bundled")
    config = _FULL_SIZE[task]()
    chance: Any = torch.random  # torch leaves it untyped.
    with chance.fork_rng():
        chance.manual_seed(_SEED)
        model = _AUTO[task].from_config(config, dtype=torch.float32)
    tokenizer.model_max_length = 512
    return model, tokenizer


def _sentiment_config() -> DistilBertConfig:
    return DistilBertConfig(
        id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1}
    )


def _summarize_config() -> Any:
    config: Any = T5Config  # Its signature lacks decoder_start_token_id.
    return config(decoder_start_token_id=0)  # The other defaults are those of t5-small.


def _answer_config() -> DistilBertConfig:
    return DistilBertConfig(vocab_size=28_996)


_FULL_SIZE: Final[dict[Task, Callable[[], Any]]] = {
    "sentiment": _sentiment_config,
    "summarize": _summarize_config,
    "answer": _answer_config,
}


def _weights_digest(model: Any) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _seed_digest(model: Any) -> str:
    return hashlib.sha256(f"{_SEED} {model.config.to_json_string()}".encode()).hexdigest()[:12]

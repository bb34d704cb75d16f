"""Train or evaluate the bundled models; see the package."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from reference_app.models.weights import BUNDLED
from reference_app.training.answer import train_answer
from reference_app.training.evaluate import evaluate
from reference_app.training.sentiment import train_sentiment
from reference_app.training.summarize import train_summarize

_TRAIN: dict[str, Callable[[Path], None]] = {
    "sentiment": train_sentiment,
    "answer": train_answer,
    "summarize": train_summarize,
}


def main() -> None:
    """Read the one argument, and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m reference_app.training", description=__doc__)
    parser.add_argument("what", choices=[*_TRAIN, "all", "evaluate"])
    what: str = parser.parse_args().what
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if what == "evaluate":
        evaluate(BUNDLED)
        return
    for task, train in _TRAIN.items():
        if what in {task, "all"}:
            train(BUNDLED / task)


if __name__ == "__main__":
    main()

"""Small lowercase WordPiece tokenizers for the two DistilBERT models.

Rule: the same texts give the same vocabulary. By itself the trainer numbers the letters within
words in the order of a hash map, and settles ties by number; here they are numbered beforehand.
"""

import string
from collections.abc import Iterable
from typing import Any, Final

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer
from transformers import PreTrainedTokenizerFast

__all__ = ["train_wordpiece"]

_SPECIAL: Final = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def train_wordpiece(texts: Iterable[str], *, size: int, positions: int) -> Any:
    """Learn a vocabulary of at most `size` from texts."""
    draft = _untrained(WordPiece(unk_token=_SPECIAL["unk_token"]))
    letters = [f"##{letter}" for letter in string.ascii_lowercase + string.digits]
    draft.train_from_iterator(
        texts,
        WordPieceTrainer(
            vocab_size=size, special_tokens=[*_SPECIAL.values(), *letters], show_progress=False
        ),
    )
    # Anew from its vocabulary, or "##a" in a visitor's text would be taken for a special token.
    tokenizer = _untrained(WordPiece(draft.get_vocab(), unk_token=_SPECIAL["unk_token"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    wrap: Any = PreTrainedTokenizerFast  # transformers leaves its arguments untyped.
    return wrap(
        tokenizer_object=tokenizer,
        model_max_length=positions,
        model_input_names=["input_ids", "attention_mask"],
        **_SPECIAL,
    )


def _untrained(model: WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer

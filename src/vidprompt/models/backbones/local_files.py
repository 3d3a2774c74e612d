"""The files of a backbone in a folder, as open_clip and Hugging Face's tokenizers name them."""

from __future__ import annotations

from pathlib import Path

from vidprompt.files.hashes import digest, sha256

LOCAL_DIR = "local-dir:"  # open_clip's prefix of a folder's path that stands for a name
FOLDER_CONFIG = "open_clip_config.json"
FOLDER_WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors",
    "open_clip_pytorch_model.bin", "pytorch_model.bin",
)  # fmt: skip
TOKENIZER_CONFIG = "tokenizer_config.json"
PACKAGED = "backbone/tokenizer"  # their folder beside a checkpoint that is copied with its backbone
TOKENIZER_FILES = (
    "tokenizer.json", TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json",
    "config.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


def tokenizer_files(folder: Path) -> list[Path]:
    """The tokenizer's files that are in a folder; [] if it is none, or has none."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def tokenizer_digest(folder: Path) -> str:
    """Identifies the content of a tokenizer's files; "" where there are none."""
    files = tokenizer_files(folder)
    return digest({file.name: sha256(file) for file in files}) if files else ""

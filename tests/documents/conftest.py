"""Fixtures: small tokenizers trained here, and a way to parse bytes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from embedfleet.documents.file_types import check_type
from embedfleet.documents.parsers import Limits, Parsed, parser_of
from embedfleet.documents.sandbox import Loss, SandboxPool
from embedfleet.documents.tokens import ModelTokens
from embedfleet.runtime.settings import SandboxSettings
from tests.documents.make_files import VIETNAMESE

MAX_TOKENS = 64
CORPUS = [
    VIETNAMESE,
    "The quick brown fox jumps over the lazy dog. Sentences end, and others begin.",
    "文書を読み、切り分け、索引に入れる。高塑低强岩石隧洞开挖。",
]


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    alphabet = [chr(c) for c in range(0x20, 0x7F)]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(
            vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _byte_pairs() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json as models ship it: with truncation and padding on."""
    tokenizer = _wordpiece()
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def wordpiece(tokenizer_path: Path) -> ModelTokens:
    return ModelTokens.load(tokenizer_path)


@pytest.fixture(scope="session", params=["wordpiece", "byte_pairs"])
def tokens(request: pytest.FixtureRequest, wordpiece: ModelTokens) -> ModelTokens:
    return wordpiece if request.param == "wordpiece" else ModelTokens(_byte_pairs())


@pytest.fixture
def parse(tmp_path: Path) -> Callable[..., Parsed]:
    """Write bytes to a file and parse it, through the type gate."""

    def run(data: bytes, extension: str, limits: Limits | None = None) -> Parsed:
        path = tmp_path / "blob"
        path.write_bytes(data)
        media_type = check_type(extension, data[:65_536])
        with path.open("rb") as file:
            return parser_of(media_type)(file, limits or Limits(), lambda done, total: None)

    return run


@pytest.fixture
def make_pool(tokenizer_path: Path) -> Iterator[Callable[..., SandboxPool]]:
    """Start pools that are closed after the test, and keep the losses that they tell of."""
    pools: list[SandboxPool] = []

    def make(size: int = 1, files_per_child: int = 100, **settings: int) -> SandboxPool:
        limits = SandboxSettings.model_validate(settings)
        losses: list[Loss] = []
        pool = SandboxPool(size, tokenizer_path, MAX_TOKENS, limits, files_per_child, losses.append)
        pool.losses = losses
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()

"""Make the tiny random models of tests/encoders, with everything that a real one has: one a family.

- tiny: BERT, mean pooling.
- tiny_mpnet: MPNet (relative positions, positions from 2, no token types), CLS pooling, prompts.
- tiny_xlmr: XLM-RoBERTa (positions from 2, SentencePiece's unigrams), mean pooling, does not normalise.

Needs an environment of its own (sentence-transformers==5.7.0 and the extra `export`):

    python tests/encoders/make_tiny.py tiny_mpnet tiny_xlmr
"""

import json
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import make_golden
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizerFast,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

HERE = Path(__file__).parent
MAX_TOKENS = 64
WORDS = (
    "the of to and in is it for that was on with as be at by this have from or had not but what all were when"
)
LETTERS = string.ascii_lowercase + string.digits
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}


def word_pieces(special: list[str]) -> list[str]:
    words = [word for word in WORDS.split() if len(word) > 1]
    return [*special, *LETTERS, *string.punctuation, *(f"##{letter}" for letter in LETTERS), *words]


def bert(work: Path) -> None:
    pieces = word_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    (work / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=128, **SIZES)
    BertModel(config, add_pooling_layer=False).eval().save_pretrained(work / "model")
    BertTokenizerFast(str(work / "vocab.txt"), model_max_length=128).save_pretrained(work / "model")


def mpnet(work: Path) -> None:
    pieces = word_pieces(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"])
    (work / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = MPNetConfig(vocab_size=len(pieces), max_position_embeddings=MAX_TOKENS + 2, **SIZES)
    MPNetModel(config, add_pooling_layer=False).eval().save_pretrained(work / "model")
    MPNetTokenizerFast(str(work / "vocab.txt"), model_max_length=MAX_TOKENS).save_pretrained(work / "model")


def xlmr(work: Path) -> None:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*LETTERS, *string.punctuation, "▁", *(f"▁{word}" for word in WORDS.split()), "ơ", "ệ", "水"]
    scores = [(piece, 0.0) for piece in special] + [(piece, -float(len(special))) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
    ).save_pretrained(work / "model")
    config = XLMRobertaConfig(vocab_size=len(scores), max_position_embeddings=MAX_TOKENS + 2, **SIZES)
    config.pad_token_id, config.type_vocab_size = 1, 1
    XLMRobertaModel(config, add_pooling_layer=False).eval().save_pretrained(work / "model")


FAMILIES: dict[str, tuple[Callable[[Path], None], str, bool, dict[str, str]]] = {
    "tiny": (bert, "mean", True, {}),
    "tiny_mpnet": (mpnet, "cls", True, {"query": "for ", "passage": "what is "}),
    "tiny_xlmr": (xlmr, "mean", False, {}),
}


def make(name: str) -> None:
    torch.manual_seed(20261124)
    family, mode, normalises, prompts = FAMILIES[name]
    target = HERE / name
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        family(work)
        transformer = Transformer(str(work / "model"), max_seq_length=MAX_TOKENS)
        modules = [transformer, Pooling(transformer.get_word_embedding_dimension(), mode)]
        modules += [Normalize()] if normalises else []
        SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(work / "st"))
        export(work / "st", work / "onnx")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(work / "st", target, ignore=shutil.ignore_patterns("README.md"))
        (target / "onnx").mkdir()
        shutil.copyfile(work / "onnx" / "model.onnx", target / "onnx" / "model.onnx")
    make_golden.main(str(target), f"test/{name}", HERE / "tiny_golden.json", prompts.get("passage", ""))
    print(json.dumps({str(path.relative_to(target)): path.stat().st_size for path in target.rglob("*.*")}))


def export(checkpoint: Path, output: Path) -> None:
    tool = Path(sys.executable).with_name("optimum-cli")
    options = ["--task=feature-extraction", "--library=transformers"]
    subprocess.run([tool, "export", "onnx", f"--model={checkpoint}", *options, output], check=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or FAMILIES:
        make(name)

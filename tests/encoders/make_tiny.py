"""Make tests/encoders/tiny: a random BERT of 16 dimensions with everything that a real model has.

Needs an environment of its own (sentence-transformers==5.7.0 and the extra `export`):

    python tests/encoders/make_tiny.py
"""

import json
import shutil
import string
import subprocess
import sys
import tempfile
from pathlib import Path

import make_golden
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

HERE = Path(__file__).parent
TARGET = HERE / "tiny"
MAX_TOKENS = 64
WORDS = (
    "the of to and in is it for that was on with as be at by this have from or had not but what all were when"
)


def vocabulary() -> list[str]:
    letters = string.ascii_lowercase + string.digits
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [word for word in WORDS.split() if len(word) > 1]
    return [*special, *letters, *string.punctuation, *(f"##{letter}" for letter in letters), *words]


def main() -> None:
    torch.manual_seed(20261124)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
        config = BertConfig(
            vocab_size=len(vocabulary()),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=128,
            initializer_range=0.5,
        )
        BertModel(config, add_pooling_layer=False).eval().save_pretrained(work / "bert")
        BertTokenizerFast(str(work / "vocab.txt"), model_max_length=128).save_pretrained(work / "bert")
        transformer = Transformer(str(work / "bert"), max_seq_length=MAX_TOKENS)
        pooling = Pooling(transformer.get_word_embedding_dimension(), "mean")
        SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save(str(work / "st"))
        export(work / "st", work / "onnx")
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(work / "st", TARGET, ignore=shutil.ignore_patterns("README.md"))
        (TARGET / "onnx").mkdir()
        shutil.copyfile(work / "onnx" / "model.onnx", TARGET / "onnx" / "model.onnx")
    (HERE / "tiny_golden.json").unlink(missing_ok=True)
    make_golden.main(str(TARGET), "test/tiny", HERE / "tiny_golden.json")
    print(json.dumps({str(path.relative_to(TARGET)): path.stat().st_size for path in TARGET.rglob("*.*")}))


def export(checkpoint: Path, output: Path) -> None:
    tool = Path(sys.executable).with_name("optimum-cli")
    options = ["--task=feature-extraction", "--library=transformers"]
    subprocess.run([tool, "export", "onnx", f"--model={checkpoint}", *options, output], check=True)


if __name__ == "__main__":
    main()

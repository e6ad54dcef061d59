"""Make services/embedfleet/encoders/golden.json with sentence-transformers, the reference.

Needs an environment of its own (sentence-transformers==5.7.0, torch==2.13.0):

    python tests/encoders/make_golden.py FOLDER_OF_THE_CHECKPOINT [MODEL_ID]
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent
OUTPUT = HERE.parents[1] / "services" / "embedfleet" / "encoders" / "golden.json"
MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"


def main(folder: str, model_id: str = MODEL_ID, output: Path = OUTPUT, prompt: str = "") -> None:
    entries = json.loads((HERE / "golden_texts.json").read_text(encoding="utf-8"))
    texts = [entry if isinstance(entry, str) else entry["repeat"] * entry["times"] for entry in entries]
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    # One text a batch: nothing that another text or padding does can be in the reference.
    vectors = model.encode(
        texts, batch_size=1, normalize_embeddings=True, convert_to_numpy=True, prompt=prompt or None
    )
    golden = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    numbers = base64.b64encode(np.ascontiguousarray(vectors, dtype="<f4").tobytes()).decode()
    golden[model_id] = {"texts": entries, "vectors": numbers}
    output.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(texts)} texts, {vectors.shape[1]} dimensions, {output.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])

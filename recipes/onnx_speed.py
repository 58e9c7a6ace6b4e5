"""One text at a time: an exported model beside PyTorch in float32, in turns.

nlp-meta adapt runs/reptile_reviews --data labeled.csv --output-dir adapted
python recipes/onnx_speed.py adapted --data test.csv
python recipes/onnx_speed.py adapted --data test.csv --threads 2 --rounds 5

Both get token ids and give logits; PyTorch runs the merged weights, without the low-rank terms
apart. `nlp-meta predict` beside it is all that a user waits for, tokens and n-grams included.
Medians of ratios, text by text, and how often the labels are the same.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from nlp_meta.exporting.graph import merge
from nlp_meta.exporting.onnx_export import FLOAT32, INT8, Measured, export_onnx, measure
from nlp_meta.files.tables import read_table
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.progress import quiet_libraries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="adapted model")
    parser.add_argument("--data", required=True, type=Path, help="table with a column `text`")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = read_table(options.data, label_column=None, max_rows=sys.maxsize)
    texts = table.texts[: options.texts]
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        model = AdaptedModel.from_pretrained(options.model, device="cpu")
        export_onnx(model, folder, texts=texts[:1])
        network, names = merge(model), (FLOAT32, INT8)
        rounds = [
            measure(model, network, Path(folder), names, texts) for _ in range(options.rounds)
        ]
        seconds = [time_prediction(model, text) for text in texts]
    show(rounds, 1000 * median(seconds), options.threads)


def time_prediction(model: AdaptedModel, text: str) -> float:
    began = time.perf_counter()
    model.predict([text])
    return time.perf_counter() - began


def show(rounds: list[Measured], predict_milliseconds: float, threads: int) -> None:
    print(f"{len(rounds)} rounds of {rounds[0].texts} texts, {threads} threads, "
          f"{torch.backends.cpu.get_cpu_capability()}")  # fmt: skip
    print(f"{predict_milliseconds:8.2f} ms  AdaptedModel.predict")
    print(f"{median(one.torch_milliseconds for one in rounds):8.2f} ms  PyTorch, float32, merged")
    for name in rounds[0].files:
        files = [one.files[name] for one in rounds]
        ratios = sorted(one.times_faster for one in files)
        print(
            f"{median(one.milliseconds for one in files):8.2f} ms  {name}: "
            f"{median(ratios):.2f} times PyTorch (rounds {ratios[0]:.2f} to {ratios[-1]:.2f}), "
            f"{files[0].agreement:.1%} same labels, {files[0].bytes / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()

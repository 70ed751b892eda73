"""What int8 costs in labels and scores and what it gains in speed, as one table.

    python benchmark/quantization.py --model mid --calibrate DATA --score NAME=DATA[:TRUTH] ...
                                     [--frames 8] [--threads 1] [--out FOLDER] [--page PAGE.md]

Quantises the model (`cigocc quantize`), compares float32 and int8 in ONNX Runtime and, where it is
installed, OpenVINO, frame by frame in turn (`cigocc parity`), scores both (`cigocc evaluate`) on
every data set, and writes JSON, and the tables into the marked part of the page.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from benchmark.machine import MEASURED
from cigocc_ros.commands.main import main as cigocc
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.core.markdown import table, write_into
from cigocc_ros.runtime.predictor import find_model_dir


def main() -> int:
    """Measure, print, write."""
    args = arguments()
    int8 = args.out / f'{args.model_name}_int8'
    common = ['--threads', str(args.threads)]
    frames = ['--frames', str(args.frames)]
    model = str(find_model_dir(args.model))
    must(['quantize', str(args.calibrate), '--model', model, '--out', str(int8), *frames, *common])
    subjects = [f'{b}:{m}' for b in backends() for m in (model, str(int8))]
    compared = args.out / 'parity'
    # on frames that did not calibrate, where there are others
    data = args.score[0][1].partition(':')[0] if args.score else str(args.calibrate)
    parity = [*subjects, '--data', data, *frames, '--out', str(compared)]
    must(['parity', *parity, *common])
    scores = {name: score(name, where, (model, str(int8)), args) for name, where in args.score}
    result = {
        'quantization': load_manifest(int8).training['quantization'],
        'parity': json.loads((compared / 'parity.json').read_text()),
        'scores': scores,
    }
    write_atomically(args.out / 'quantization.json', json.dumps(result, indent=2) + '\n')
    text = tables(result)
    print(text)
    if args.page:
        write_into(args.page, {MEASURED: text})
    return 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--model', default='mid')
    parser.add_argument('--calibrate', type=Path, required=True)
    parser.add_argument('--score', nargs='*', default=[], metavar='NAME=DATA[:TRUTH]')
    parser.add_argument('--frames', type=int, default=8)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path('quantization_output'))
    parser.add_argument('--page', type=Path)
    args = parser.parse_args()
    args.model_name = find_model_dir(args.model).resolve().name
    args.score = [entry.split('=', 1) for entry in args.score]
    return args


def backends() -> list[str]:
    """Return the CPU backends that are installed, the reference first."""
    return ['onnxruntime', *(['openvino'] if importlib.util.find_spec('openvino') else [])]


def score(name: str, where: str, models: tuple[str, str], args: argparse.Namespace) -> list[Any]:
    """Return the evaluation of float32 and of int8 on one data set."""
    data, _, truth = where.partition(':')
    results = []
    for model, kind in zip(models, ('float32', 'int8'), strict=True):
        out = args.out / f'{name}_{kind}'
        words = ['evaluate', data, '--model', model, '--threads', str(args.threads)]
        must([*words, '--out', str(out), *(['--ground-truth', truth] if truth else [])])
        results.append(json.loads((out / 'evaluation.json').read_text()))
    return results


def must(words: list[str]) -> None:
    """Run a verb; end the measurement where it fails."""
    if cigocc(words) != 0:
        sys.exit(f'cigocc {" ".join(words)} failed')


def tables(result: dict[str, Any]) -> str:
    """Return agreement, latency and scores as Markdown."""
    facts, parity = result['quantization'], result['parity']
    lines = [
        f'Model `{facts["of"]}` (sha256 {facts["of_sha256"][:12]}), {facts["convolutions"]} '
        f'convolutions in int8, calibrated on {facts["calibration_frames"]} frames of '
        f'`{facts["data"]}`; {parity["frames"]}, prior {parity["depth_prior"]}; '
        f'{parity["machine"]}; commit {parity["code_commit"]}.',
        '',
    ]
    heads = ('Engine', 'Types', 'Labels equal', 'where occupied', 'Occupied IoU', 'Mean IoU')
    more = ('Largest probability difference', 'Median ms', 'Times faster')
    engines = [_reference_row(parity['reference']), *map(_agreement_row, parity['candidates'])]
    lines += [*table((*heads, *more), engines, left=2), '']
    rows = []
    for name, pair in result['scores'].items():
        for kind, report in zip(('float32', 'int8'), pair, strict=True):
            best = report['scores']['51.2']
            count = sum(report['frames'].values())
            shares = [f'{100 * best[key]:.2f}' for key in ('iou', 'miou')]
            rows.append((f'{name}, {count} frames', kind, *shares))
    lines += table(('Scored on', 'Types', 'IoU', 'mIoU'), rows, left=2)
    return '\n'.join(lines) + '\n'


def _types(row: dict[str, Any]) -> str:
    return 'int8' if 'int8' in row['file'] else 'float32'


def _reference_row(row: dict[str, Any]) -> list[str]:
    nothing = ['', '', '', '']
    latency = f'{row["latency_median_ms"]:.0f}'
    return [row['engine'], _types(row), 'reference', *nothing, latency, '1.00']


def _agreement_row(row: dict[str, Any]) -> list[str]:
    found = row['agreement']
    names = ('labels', 'labels_where_occupied', 'occupied_iou', 'mean_iou')
    shares = [f'{100 * found[name]:.2f} %' for name in names]
    difference = f'{found["largest_probability_difference"]:.3f}'
    speed = [f'{row["latency_median_ms"]:.0f}', f'{row["speedup"]:.2f}']
    return [row['engine'], _types(row), *shares, difference, *speed]


if __name__ == '__main__':
    sys.exit(main())

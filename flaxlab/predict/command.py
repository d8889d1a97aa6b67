"""Classifies pictures and prints their classes, for the command `flaxlab.predict`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from flaxlab import files
from flaxlab.command_line import open_console
from flaxlab.data.images import SUFFIXES
from flaxlab.errors import UsageError
from flaxlab.predict.prediction import Prediction, predict_files
from flaxlab.predict.saliency import explain, last_feature_maps
from flaxlab.run.load import StoredModel


def predict(
    stored: StoredModel,
    paths: Sequence[Path],
    top: int,
    invert: bool,
    form: str,
    to: Path | None,
    method: str,
) -> None:
    """Classifies pictures and prints the most probable classes.

    Args:
        stored: the model.
        paths: pictures, or folders with pictures.
        top: number of classes to print.
        invert: invert the pixels first.
        form: "table" or "json".
        to: folder to write saliency pictures to; None: write none.
        method: how they are computed, one of `saliency.METHODS`.

    Raises:
        UsageError: a file is not a picture, `to` cannot be made, or the network does not suit the
            method.
    """
    if method == "grad_cam":
        last_feature_maps(stored)  # before anything is computed
    pictures = _list_pictures(paths)
    predictions = predict_files(stored, pictures, invert)
    top = min(top, len(stored.class_names))
    if form == "json":
        found = [_as_dict(each, stored.class_names, top) for each in predictions]
        print(json.dumps(found, indent=2))
    else:
        table = Table("picture", box=None, pad_edge=False)
        for number in range(top):
            table.add_column("class" if number == 0 else f"{number + 1}.")
        for each in predictions:
            chosen = each.order[:top]
            texts = [f"{stored.class_names[k]} {each.probabilities[k]:.1%}" for k in chosen]
            table.add_row(str(each.path), *texts)
        open_console().print(table)
    if to is not None:
        from flaxlab.pages import image_plots, style

        files.make_folder(to, "--explain")
        for number, each in enumerate(predictions):
            label = each.order[0]
            figure = image_plots.saliency(
                each.image,
                f"{stored.class_names[label]} {each.probabilities[label]:.1%}",
                *explain(stored, each.image, label, method),
            )
            # Numbered, since pictures in different folders may have the same name.
            target = to / f"{number:04d}_{each.path.stem}.png"
            files.write_bytes(target, style.png(figure))


def _as_dict(each: Prediction, names: Sequence[str], top: int) -> dict[str, object]:
    classes = [{"class": names[k], "probability": each.probabilities[k]} for k in each.order[:top]]
    return {"path": str(each.path), "classes": classes}


def _list_pictures(paths: Sequence[Path]) -> list[Path]:
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
            if not inside:
                raise UsageError(f"{path} holds no PNG or JPEG pictures")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"there is no picture {path}")
    return found

"""Alternative text and captions of the report's figures."""

from fcn.evaluation.review import disputed, ends, shares
from fcn.ladder import NETS
from fcn.report.markdown import Content, percent, share_of


def captions(content: Content) -> dict[str, str]:
    """A description of each figure, with its key numbers, by file name."""
    last = {NETS[net]: rows["mean_iu"].iloc[-1] for net, rows in content.curves.items()}
    final = ", ".join(f"{net} ends at {percent(value)}" for net, value in last.items()) or "no net was trained"
    columns = ", ".join(NETS.values())
    alts = {"curves": f"Training loss and mean IU on val by step, one net after the other: {final}."}
    for net, name in NETS.items():
        if net in content.curves:
            steps = content.curves[net]["iteration"]
            alts[f"validation_{net}"] = (
                f"Predictions of {name} for the same few validation images during training, below the images and "
                f"their true masks: from step {steps.iloc[0]} to step {steps.iloc[-1]}."
            )
    alts["evaluate/predictions"] = (
        f"Validation images in rows: the image, its true mask, and each net's prediction ({columns})."
    )
    alts |= {f"evaluate/{name}": text for name, text in _reviewed(content).items()}
    for net, name in reversed(NETS.items()):
        text = f"Confusion matrix of {name}: for each true class, the share of pixels predicted as each class"
        iu = content.classes[net].dropna().to_dict() if net in content.classes else {}
        if iu:
            best, worst = max(iu, key=iu.__getitem__), min(iu, key=iu.__getitem__)
            text += f". The highest IU has {best}, {percent(iu[best])}, the lowest {worst}, {percent(iu[worst])}"
        alts[f"evaluate/confusion_{net}"] = text + "."
    alts["resize/samples"] = "Training images, each beside its mask in the colours of the classes."
    shares = dict(zip(content.labels.names, content.shares, strict=True))
    common, rare = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    alts["resize/classes"] = (
        "Share of the pixels that each class has, in train and in val, on a logarithmic axis: in val from "
        f"{common} ({share_of(shares[common])}) down to {rare} ({share_of(shares[rare])})."
    )
    return alts


def _reviewed(content: Content) -> dict[str, str]:
    """Descriptions of the figures by image, by class and by border distance; only of scored nets."""
    nets = [net for net, row in content.scores.items() if row]
    if not nets:
        return {}
    coarse, fine = nets[0], nets[-1]
    name, scores, images = NETS[fine], content.images[fine].to_numpy(float), content.images["image"].tolist()
    iu = content.classes[nets].dropna()
    gains = (iu[fine] - iu[coarse]).to_dict()
    alts = {"iu": f"IU of each class that a mask has, a dot a net, the best of {name} on top; dotted lines are means."}
    if len(nets) > 1 and gains:
        most, least = max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)
        alts["iu"] += (
            f" From {NETS[coarse]} to {name} {most} changes by {100 * gains[most]:+.1f}, {least} by "
            f"{100 * gains[least]:+.1f}."
        )
    for kind, word, (i, *_) in zip(("best", "worst"), ("highest", "lowest"), ends(scores), strict=True):
        alts[kind] = (
            f"The validation images on which {name} has the {word} mean IU, from {images[i]}, {percent(scores[i])}: "
            f"image, truth, predictions, and marked what {name} has wrong. An image's mean IU is over the classes that "
            "its mask or the prediction has; beside each image stand the nets' own."
        )
    differ = content.images["differ"].to_numpy(float)
    if len(nets) > 1:
        alts["strides"] = "The nets agree on every pixel of val: no finer stride changes what the coarser one says."
    for i in disputed(differ, 1):
        alts["strides"] = (
            f"The validation images on which the nets differ most, from {images[i]}, "
            f"{percent(differ[i])} % of its pixels: image, truth, and for each step to a finer net, marked in "
            "colours, what it mends, what it spoils, and what is wrong before and after, but not alike; beside each "
            "image the shares of its pixels, in per cent."
        )
    return alts | {"borders": _borders(content, nets)}


def _borders(content: Content, nets: list[str]) -> str:
    """Description of the border chart, with the error of pixels near a border and of all pixels."""
    distances = content.borders["distance"].tolist()
    pixels = content.borders["pixels"].to_numpy().cumsum()
    wrong = {NETS[net]: shares(content.borders[net].to_numpy().cumsum(), pixels) for net in nets}
    near = int((pixels >= pixels[-1] / 100).argmax())  # the smallest distance that covers 1 % of the pixels
    reached = {near: f"within {distances[near]}"} if near < len(pixels) - 1 else {}
    numbers = (
        f"{where}: " + ", ".join(f"{net} {percent(values[k])}" for net, values in wrong.items())
        for k, where in (reached | {-1: "anywhere"}).items()
    )
    return (
        "Share of wrong pixels by distance, in pixels, from the nearest pixel of another class (void is none), within "
        f"each distance and ring by ring. In per cent, {'; '.join(numbers)}."
    )

"""The names of the authors' generators in ours, for their checkpoints (latest_net_G_A.pth)."""


def reference_names(num_blocks: int) -> dict[str, str]:
    """Return the reference's parameter names, each with the name in ``ResNetGenerator``.

    The reference (junyanz/pytorch-CycleGAN-and-pix2pix, ``ResnetGenerator`` with instance norm,
    without dropout) is one sequence of layers: padding, convolution, norm, ReLU, and so on; shapes
    are the same as ours. Files of PyTorch 0.3 also hold ``running_mean``, ``running_var`` and
    ``num_batches_tracked`` of their instance norms, which no translation uses: an importer drops
    them and refuses every other name.
    """
    last = 10 + num_blocks  # the sequence's first layer after the residual blocks
    modules = {
        "model.1": "stem",
        "model.4": "down.0",
        "model.7": "down.1",
        f"model.{last}": "up.0",
        f"model.{last + 3}": "up.1",
        f"model.{last + 7}": "head",
    }
    for block in range(num_blocks):
        modules[f"model.{10 + block}.conv_block.1"] = f"blocks.{block}.first"
        modules[f"model.{10 + block}.conv_block.5"] = f"blocks.{block}.second"
    return {
        f"{theirs}.{kind}": f"{ours}.{kind}"
        for theirs, ours in modules.items()
        for kind in ("weight", "bias")
    }

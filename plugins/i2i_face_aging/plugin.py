"""The door: what this plugin offers to i2i."""

from collections.abc import Mapping
from typing import Any

from i2i.hookspecs import hookimpl
from i2i_face_aging.weights import OFFERED


@hookimpl
def i2i_families() -> Mapping[str, str]:
    """Offer the families; their code is imported when a recipe names one."""
    return {
        "age-cgan": "i2i_face_aging.age_cgan:AgeCGAN",
        "face-aging": "i2i_face_aging.aging:FaceAging",
    }


@hookimpl
def i2i_layouts() -> Mapping[str, str]:
    """Offer layouts of faces whose ages are known."""
    return {
        "age_folders": "i2i_face_aging.layouts:AgeFolders",
        "age_table": "i2i_face_aging.layouts:AgeTable",
        "utkface": "i2i_face_aging.layouts:UTKFace",
    }


@hookimpl
def i2i_weights() -> Mapping[str, Mapping[str, Any]]:
    """Offer the face embeddings that do not ship."""
    return {name: remote.offer for name, remote in OFFERED.items()}

"""What each mechanism does to cells: log fold changes of the phenotype at full effect, with the field's names.

Directions follow what the field reports of each class in label-free and stained images; the sizes are ours.
"""

from collections.abc import Mapping

MECHANISMS: Mapping[str, Mapping[str, float]] = {
    "microtubule destabiliser": {
        "growth_per_h": -1.6, "mitotic": 1.9, "multinucleate": 2.0, "area_um2": -0.35, "elongation": -0.9,
        "nucleus_irregularity": 1.4, "protrusions": -1.2, "edge_roughness": 0.3,
    },
    "actin polymerisation inhibitor": {
        "growth_per_h": -0.8, "area_um2": -0.5, "protrusions": 1.5, "protrusion_um": 0.5, "edge_roughness": 0.8,
        "body_rad": 0.4, "lamella_rad": -0.6, "multinucleate": 1.6,
    },
    "DNA synthesis inhibitor": {
        "growth_per_h": -2.2, "mitotic": -1.8, "area_um2": 0.65, "nucleus_um": 0.35, "nucleoli": -0.5,
        "lamella_rad": -0.2, "clustering": -0.4,
    },
    "mTOR inhibitor": {
        "growth_per_h": -0.8, "area_um2": -0.45, "nucleus_um": -0.18, "body_rad": -0.3, "nucleoli": -0.9,
        "granularity_rad": -0.4, "mitotic": -0.6,
    },
    "ER stress inducer": {
        "growth_per_h": -1.0, "granularity_rad": 0.7, "grain_um": 0.35, "vacuoles": 1.8, "vacuole_um": -0.2,
        "body_rad": 0.3, "area_um2": -0.2, "protrusions": -0.5,
    },
    "HDAC inhibitor": {
        "growth_per_h": -1.3, "area_um2": 0.45, "elongation": 0.9, "protrusions": 0.9, "protrusion_um": 0.5,
        "body_rad": -0.35, "nucleus_um": 0.2, "droplets": 1.0,
    },
    "lysosomotropic agent": {
        "growth_per_h": -0.5, "vacuoles": 3.2, "vacuole_um": 0.35, "granularity_rad": 0.3, "droplets": -0.4,
        "body_spread": 0.2,
    },
    "Aurora kinase inhibitor": {
        "growth_per_h": -1.4, "multinucleate": 2.8, "nucleus_um": 0.3, "nucleus_irregularity": 1.2, "area_um2": 0.75,
        "mitotic": -0.4, "nucleoli": 0.4,
    },
    "ROCK inhibitor": {
        "growth_per_h": -0.2, "protrusions": 1.6, "protrusion_um": 0.9, "elongation": 0.5, "area_um2": -0.15,
        "body_rad": 0.25, "clustering": -0.9, "edge_roughness": -0.4,
    },
    "Na/K-ATPase inhibitor": {
        "growth_per_h": -1.8, "area_um2": -0.4, "rounded": 2.0, "elongation": -0.5, "lamella_rad": 0.35,
        "granularity_rad": -0.5, "blebs": 1.5, "vacuoles": 0.8,
    },
    "kinesin Eg5 inhibitor": {
        "growth_per_h": -1.8, "mitotic": 2.6, "rounded": 0.6, "multinucleate": 0.8, "area_um2": 0.1, "droplets": 0.5,
    },
    "proteasome inhibitor": {
        "growth_per_h": -1.8, "rounded": 1.4, "elongation": 0.7, "area_um2": -0.5, "granularity_rad": 0.5,
        "vacuoles": 1.3, "protrusion_um": 0.6,
    },
    "PKC activator": {
        "growth_per_h": -0.3, "clustering": -1.2, "edge_roughness": 0.9, "area_um2": 0.3, "lamella_rad": 0.3,
        "body_spread": -0.35, "protrusions": 0.4,
    },
    "Src inhibitor": {
        "growth_per_h": -0.4, "clustering": 0.9, "edge_roughness": -0.8, "protrusions": -1.5, "elongation": -0.6,
        "lamella_rad": 0.25, "area_um2": -0.15,
    },
    "V-ATPase inhibitor": {
        "growth_per_h": -0.7, "vacuoles": 2.4, "vacuole_um": 0.7, "droplets": 0.8, "body_rad": 0.2, "elongation": -0.3,
    },
    "glucocorticoid receptor agonist": {
        "growth_per_h": -0.5, "area_um2": 0.35, "body_rad": -0.4, "droplets": 1.4, "clustering": 0.5,
        "granularity_rad": -0.3, "elongation": 0.4,
    },
}  # fmt: skip
"""Mechanism -> phenotype parameter -> log fold change where the compound acts fully."""

SPAN: Mapping[str, float] = {
    "growth_per_h": 3.0, "area_um2": 1.1, "elongation": 1.5, "edge_roughness": 1.2, "protrusions": 2.0,
    "protrusion_um": 1.0, "lamella_rad": 0.8, "body_rad": 0.8, "body_spread": 0.5, "granularity_rad": 1.0,
    "grain_um": 0.6, "droplets": 2.5, "vacuoles": 3.6, "vacuole_um": 0.7, "nucleus_um": 0.45,
    "nucleus_irregularity": 1.8, "nucleoli": 1.2, "multinucleate": 3.2, "mitotic": 2.8, "rounded": 2.5, "blebs": 2.5,
    "clustering": 1.2,
}  # fmt: skip
"""Phenotype parameter -> the largest log fold change, up or down, that a compound can cause in a living cell."""

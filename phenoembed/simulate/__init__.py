"""A simulated screen: phase-contrast images of cells as phase objects, with the truth written beside the manifest."""

from phenoembed.simulate.screen import simulate_screen

__all__ = ["simulate_screen"]

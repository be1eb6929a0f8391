"""The drawing of a molecule, where RDKit is installed and the SMILES can be read."""

from functools import lru_cache
from importlib import import_module


@lru_cache(maxsize=512)
def structure_svg(smiles: str) -> str | None:
    """An SVG, or None."""
    try:
        chemistry, log, draw = (
            import_module(f"rdkit.{name}") for name in ("Chem", "RDLogger", "Chem.Draw.rdMolDraw2D")
        )
    except ImportError:
        return None
    log.DisableLog("rdApp.*")
    molecule = chemistry.MolFromSmiles(smiles)
    if molecule is None:
        return None
    drawer = draw.MolDraw2DSVG(320, 180)
    drawer.DrawMolecule(molecule)
    drawer.FinishDrawing()
    svg: str = drawer.GetDrawingText()
    return svg[svg.index("<svg") :]

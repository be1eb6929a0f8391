"""Colours that people with any colour vision can tell apart (Okabe and Ito), and viridis for what has an order."""

BLUE, ORANGE, GREEN, SKY, YELLOW, PINK, GREY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#56b4e9",
    "#e69f00",
    "#cc79a7",
    "#8c8c8c",
)
PALE = "#a8a8a8"
PALETTE = [BLUE, YELLOW, GREEN, PINK, SKY, ORANGE, "#f0e442", GREY]
FEATURES = {"trained encoder": BLUE, "untrained encoder": GREY, "intensity statistics": YELLOW}
"""What a probe read, in every figure of its accuracy."""
FURTHER_TESTS = (SKY, GREEN, PINK)
"""The trained encoder on other tests than the first."""
DOSES = (
    "#fde725", "#c2df23", "#86d549", "#52c569", "#2ab07f", "#1e9b8a", "#25858e", "#2d708e", "#38588c", "#433e85",
    "#482173", "#440154",
)  # fmt: skip
"""Viridis in twelve steps, the lowest dose light."""

"""`truc demo`."""


def demo() -> None:
    """Demo."""

"""How Hypothesis runs here."""

from hypothesis import settings

# A machine that is busy with other tests is no defect; the timeout of pytest ends what hangs.
settings.register_profile("truc", deadline=None)
settings.load_profile("truc")

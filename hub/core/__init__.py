"""The pure core: values in, verdicts out. No await, no clock, no input or output.

`decide.py` shows what is checked and in which order; `hub/intake.py` what is done about it.
"""

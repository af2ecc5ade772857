"""The agencies' side: what connects an agency or a platform to the axis."""

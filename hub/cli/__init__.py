"""The command `truc`: what operators and engineers do with a hub."""

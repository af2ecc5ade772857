"""The checks that need nothing but an envelope and a directory: the hub decides by them, agencies ask them beforehand."""

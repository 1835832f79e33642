"""CRONOS, ADMM for convex networks in JAX (M. Feng, Z. Frangella, M. Pilanci, NeurIPS 2024, arXiv:2411.01088)."""

PINS: list[str] = []
#: The package called cronos at PyPI is about secrets in source code, another project.
MISSING = "not available: its authors publish no package (the one of that name on PyPI is another project)"

"""Which release is this?"""

VERSION = "0.1.0"  # Written so that the build finds it: `[tool.hatch.version]` in pyproject.toml.

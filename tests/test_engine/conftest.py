"""mmseg can be imported without compiled operators once mmfaseg is."""

import mmfaseg  # noqa: F401

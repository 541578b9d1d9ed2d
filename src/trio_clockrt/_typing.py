"""What `typing` has had since Python 3.11, on older ones too."""

import sys

if sys.version_info >= (3, 11):
    from typing import Self, TypeVarTuple, Unpack
if sys.version_info < (3, 11):
    from typing_extensions import Self, TypeVarTuple, Unpack

__all__ = ["Self", "TypeVarTuple", "Unpack"]

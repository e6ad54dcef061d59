"""Reading files in warm, killable children that hold no rights: what the document worker uses.

`pool` is the worker's side, `child` the other end of the pipe; `frames` is what passes between them,
`confinement` what the kernel holds a child to.
"""

from embedfleet.documents.sandbox.losses import Loss
from embedfleet.documents.sandbox.pool import SandboxPool

__all__ = ["Loss", "SandboxPool"]

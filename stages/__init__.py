"""One thin module per DVC stage."""

from symbiosis.core.processes import tell_lack_of_memory

tell_lack_of_memory()

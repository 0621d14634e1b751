"""What other compiled modules use of courses.pyx."""

from .engine cimport Plan
from .job cimport fnn_job

# Raises a SystemError where something was written between the parts of the workspace.
cdef int check_space(Plan plan, fnn_job *job) except -1

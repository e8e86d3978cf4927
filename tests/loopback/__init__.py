# SPDX-License-Identifier: Apache-2.0
"""An imitation of IBM's service on this machine, for the real and unpatched client.

What it shows is that our path through the client holds: login, instance, device, jobs, batches,
sessions, tags, retrieval, cancelling, usage, and every way in which those can fail. What it does
not show is IBM's own behaviour: validation on the server (it knows gates and couplings only),
billing (it charges by the published formula), queueing between users, a search for tags that lags
behind, limits on payloads and pending jobs, chunking, several regions, TLS. It has no noise, so
nothing about mitigation either. The schema of a job belongs to the client's release.
"""

from __future__ import annotations

from tests.loopback.faults import Fault, Outcome
from tests.loopback.jobs import Job
from tests.loopback.service import CRN, LoopbackService

__all__ = ["CRN", "Fault", "Job", "LoopbackService", "Outcome"]

"""The engine: CouchDB's rules, grouped as in CouchDB's source. It has no I/O, clock or randomness.

Modules import at their top, except where a slow import would delay programs that do not need it. Measured as a share of
the time that ``MemoryBackend()`` takes in a new process, with everything that it imports:

* ``dataclasses``: a quarter. Modules that the start imports use plain classes and named tuples instead.
* ``documents.attachment``, with ``zlib`` and ``base64``: a tenth beside ``dataclasses``. The first write imports it.
* ``sortedcontainers``: an eighth. Ordered ranges and indexes need it.
* ``mango`` and ``views``, with the collation: four fifths each. The first query needs them; see ``indexes.Indexes``.
* ``javascript``: two thirds, with the optional ``quickjs``. Functions of design documents need it.
* ``regex``: a third. ``$regex`` needs it.
* ``auth.users`` and ``auth.sessions``: little, but few programs have users.
"""

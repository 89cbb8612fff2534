"""The statistics of a node by path: the kind of each, and the description that ``_stats`` and ``_prometheus`` show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Statistic(NamedTuple):
    """One figure. ``kind`` is ``counter``, ``gauge`` or ``histogram``."""

    kind: str
    description: str


_TABLE = """
couch_log/level
  alert counter number of logged alert messages
  critical counter number of logged critical messages
  debug counter number of logged debug messages
  emergency counter number of logged emergency messages
  error counter number of logged error messages
  info counter number of logged info messages
  notice counter number of logged notice messages
  report counter number of logged report messages
  report_error counter number of failed report messages
  warning counter number of logged warning messages
couch_replicator
  changes_manager_deaths counter number of failed replicator changes managers
  changes_queue_deaths counter number of failed replicator changes work queues
  changes_read_failures counter number of failed replicator changes read failures
  changes_reader_deaths counter number of failed replicator changes readers
  db_scans counter number of times replicator db scans have been started
  failed_starts counter number of replications that have failed to start
  requests counter number of HTTP requests made by the replicator
  worker_deaths counter number of failed replicator workers
  workers_started counter number of replicator workers started
couch_replicator/checkpoints
  failure counter number of failed checkpoint saves
  success counter number of checkpoints successfully saves
couch_replicator/connection
  acquires counter number of times connections are shared
  closes counter number of times a worker is gracefully shut down
  creates counter number of connections created
  owner_crashes counter number of times a connection owner crashes while owning at least one connection
  releases counter number of times ownership of a connection is released
  worker_crashes counter number of times a worker unexpectedly terminates
couch_replicator/docs
  completed_state_updates counter number of 'completed' state document updates
  db_changes counter number of db changes processed by replicator doc processor
  dbs_deleted counter number of db shard deletions seen by replicator doc processor
  dbs_found counter number of db shard found by replicator doc processor
  failed_state_updates counter number of 'failed' state document updates
couch_replicator/jobs
  adds counter number of jobs added to replicator scheduler
  crashed gauge replicator scheduler crashed jobs
  crashes counter number of job crashed noticed by replicator scheduler
  duplicate_adds counter number of duplicate jobs added to replicator scheduler
  pending gauge replicator scheduler pending jobs
  removes counter number of jobs removed from replicator scheduler
  running gauge replicator scheduler running jobs
  starts counter number of jobs started by replicator scheduler
  stops counter number of jobs stopped by replicator scheduler
  total gauge total number of replicator scheduler jobs
couch_replicator/responses
  failure counter number of failed HTTP responses received by the replicator
  success counter number of successful HTTP responses received by the replicator
couch_replicator/stream_responses
  failure counter number of failed streaming HTTP responses received by the replicator
  success counter number of successful streaming HTTP responses received by the replicator
couchdb
  auth_cache_hits counter number of authentication cache hits
  auth_cache_misses counter number of authentication cache misses
  collect_results_time histogram microsecond latency for calls to couch_db:collect_results/3
  commits counter number of commits performed
  database_purges counter number of times a database was purged
  database_reads counter number of times a document was read from a database
  database_writes counter number of times a database was changed
  db_open_time histogram milliseconds required to open a database
  dbinfo histogram distribution of latencies for calls to retrieve DB info
  document_inserts counter number of documents inserted
  document_writes counter number of document write operations
  legacy_checksums counter number of legacy checksums found in couch_file instances
  local_document_writes counter number of _local document write operations
  open_databases counter number of open databases
  open_os_files counter number of file descriptors CouchDB has open
  password_hashing_fast counter number of fast password hashing operations
  password_hashing_slow counter number of slow password hashing operations
  request_time histogram length of a request inside CouchDB without MochiWeb
couchdb/coalesced_updates
  interactive counter number of coalesced interactive updates
  replicated counter number of coalesced replicated updates
couchdb/couch_server
  lru_skip counter number of couch_server LRU operations skipped
couchdb/document_purges
  failure counter number of failed document purge operations
  success counter number of successful document purge operations
  total counter number of total document purge operations
couchdb/httpd
  abandoned_streaming_requests counter number of abandoned streaming requests
  aborted_requests counter number of aborted requests
  all_docs_timeouts counter number of HTTP all_docs timeouts
  bulk_docs histogram distribution of the number of docs in _bulk_docs requests
  bulk_requests counter number of bulk requests
  clients_requesting_changes counter number of clients for continuous _changes
  explain_timeouts counter number of HTTP _explain timeouts
  find_timeouts counter number of HTTP find timeouts
  partition_all_docs_requests counter number of partition HTTP _all_docs requests
  partition_all_docs_timeouts counter number of partition HTTP all_docs timeouts
  partition_explain_requests counter number of partition HTTP _explain requests
  partition_explain_timeouts counter number of partition HTTP _explain timeouts
  partition_find_requests counter number of partition HTTP _find requests
  partition_find_timeouts counter number of partition HTTP find timeouts
  partition_view_requests counter number of partition HTTP view requests
  partition_view_timeouts counter number of partition HTTP view timeouts
  purge_requests counter number of purge requests
  requests counter number of HTTP requests
  temporary_view_reads counter number of temporary view reads
  view_reads counter number of view reads
  view_timeouts counter number of HTTP view timeouts
couchdb/httpd_request_methods
  COPY counter number of HTTP COPY requests
  DELETE counter number of HTTP DELETE requests
  GET counter number of HTTP GET requests
  HEAD counter number of HTTP HEAD requests
  OPTIONS counter number of HTTP OPTIONS requests
  POST counter number of HTTP POST requests
  PUT counter number of HTTP PUT requests
couchdb/httpd_status_codes
  200 counter number of HTTP 200 OK responses
  201 counter number of HTTP 201 Created responses
  202 counter number of HTTP 202 Accepted responses
  204 counter number of HTTP 204 No Content responses
  206 counter number of HTTP 206 Partial Content
  301 counter number of HTTP 301 Moved Permanently responses
  302 counter number of HTTP 302 Found responses
  304 counter number of HTTP 304 Not Modified responses
  400 counter number of HTTP 400 Bad Request responses
  401 counter number of HTTP 401 Unauthorized responses
  403 counter number of HTTP 403 Forbidden responses
  404 counter number of HTTP 404 Not Found responses
  405 counter number of HTTP 405 Method Not Allowed responses
  406 counter number of HTTP 406 Not Acceptable responses
  409 counter number of HTTP 409 Conflict responses
  412 counter number of HTTP 412 Precondition Failed responses
  413 counter number of HTTP 413 Request Entity Too Long responses
  414 counter number of HTTP 414 Request URI Too Long responses
  415 counter number of HTTP 415 Unsupported Media Type responses
  416 counter number of HTTP 416 Requested Range Not Satisfiable responses
  417 counter number of HTTP 417 Expectation Failed responses
  500 counter number of HTTP 500 Internal Server Error responses
  501 counter number of HTTP 501 Not Implemented responses
  503 counter number of HTTP 503 Service unavailable responses
  507 counter number of HTTP 507 Insufficient Storage responses
couchdb/io_queue
  search counter Search IO directly triggered by client requests
couchdb/io_queue2/search
  count counter Search IO directly triggered by client requests
couchdb/mrview
  emits counter number of invocations of `emit' in map functions in the view server
  map_doc counter number of documents mapped in the view server
couchdb/query_server
  acquired_processes counter number of acquired external processes
  process_error_exits counter number of error OS process exits
  process_errors counter number of OS process errors
  process_exits counter number of normal OS process exits
  process_prompts counter number of successful OS process prompts
  process_starts counter number of OS process starts
  vdu_process_time histogram duration of validate_doc_update function calls
  vdu_rejects counter number of rejections by validate_doc_update function
couchdb/query_server/calls
  add_fun counter number of add_fun requests
  ddoc_filter counter number of filter requests
  ddoc_new counter number of ddoc new requests
  ddoc_other counter number of other ddoc requests
  ddoc_vdu counter number of vdu requests
  map counter number of map_doc requests
  other counter number of other requests
  reduce counter number of reduce requests
  reset counter number of reset requests
  spawn_proc counter number of spawned query processes
couchdb/query_server/time
  add_fun counter accumulated number of microseconds spent processing add_fun requests
  ddoc_filter counter accumulated number of microseconds spent processing filter requests
  ddoc_new counter accumulated number of microseconds spent processing ddoc new requests
  ddoc_other counter accumulated number of microseconds spent processing other ddoc requests
  ddoc_vdu counter accumulated number of microseconds spent processing vdu requests
  map counter accumulated number of microseconds spent processing map_doc requests
  other counter accumulated number of microseconds spent processing other requests
  reduce counter accumulated number of microseconds spent processing reduce requests
  reset counter accumulated number of microseconds spent processing reset requests
  spawn_proc counter accumulated number of microseconds spent spawning os query processes
ddoc_cache
  hit counter number of design doc cache hits
  miss counter number of design doc cache misses
  recovery counter number of design doc cache recoveries
dreyfus/httpd
  search histogram Distribution of overall search request latency as experienced by the end user
dreyfus/index
  await histogram length of an dreyfus_index await request
  group1 histogram length of an dreyfus_index group1 request
  group2 histogram length of an dreyfus_index group2 request
  info histogram length of an dreyfus_index info request
  search histogram length of an dreyfus_index search request
dreyfus/rpc
  group1 histogram length of a group1 RPC worker
  group2 histogram length of a group2 RPC worker
  info histogram length of an info RPC worker
  search histogram length of a search RPC worker
fabric/doc_update
  errors counter number of document update errors
  mismatched_errors counter number of document update errors with multiple error types
  write_quorum_errors counter number of write quorum errors
fabric/open_shard
  timeouts counter number of open shard timeouts
fabric/read_repairs
  failure counter number of failed read repair operations
  success counter number of successful read repair operations
fabric/worker
  timeouts counter number of worker timeouts
fsync
  count counter number of fsync calls
  time histogram microseconds to call fsync
global_changes
  db_writes counter number of db writes performed by global changes
  event_doc_conflict counter number of conflicted event docs encountered by global changes
  listener_pending_updates gauge number of global changes updates pending writes in global_changes_listener
  rpcs counter number of rpc operations performed by global_changes
  server_pending_updates gauge number of global changes updates pending writes in global_changes_server
mango
  docs_examined counter number of documents examined by mango queries coordinated by this node
  evaluate_selector counter number of mango selector evaluations
  keys_examined counter number of keys examined by mango queries coordinated by this node
  query_invalid_index counter number of mango queries that generated an invalid index warning
  query_time histogram length of time processing a mango query
  quorum_docs_examined counter number of documents examined by mango queries, using cluster quorum
  results_returned counter number of rows returned by mango queries
  too_many_docs_scanned counter number of mango queries that generated an index scan warning
  unindexed_queries counter number of mango queries that could not use an index
mem3/shard_cache
  eviction counter number of shard cache evictions
  hit counter number of shard cache hits
  miss counter number of shard cache misses
nouveau
  active_searches counter number of active search requests
  connection_closed_errors counter number of times we've retried a request after a connection_closed response
  search_latency histogram Distribution of overall search request latency as experienced by the end user
  update_latency histogram Distribution of time during search waiting for the index to be updated
pread
  exceed_eof counter number of the attempts to read beyond end of db file
  exceed_limit counter number of the attempts to read beyond set limit
rexi
  buffered counter number of rexi messages buffered
  down counter number of rexi_DOWN messages handled
  dropped counter number of rexi messages dropped from buffers
rexi/streams/timeout
  init_stream counter number of rexi stream initialization timeouts
  stream counter number of rexi stream timeouts
  wait_for_ack counter number of rexi stream timeouts while waiting for acks
"""


def _parsed() -> dict[tuple[str, ...], Statistic]:
    found: dict[tuple[str, ...], Statistic] = {}
    group: tuple[str, ...] = ()
    for line in _TABLE.strip().splitlines():
        if not line.startswith(" "):
            group = tuple(line.split("/"))
            continue
        name, kind, description = line.split(maxsplit=2)
        found[(*group, name)] = Statistic(kind, description)
    return found


#: By path, in the order of Erlang.
STATISTICS: Final[Mapping[tuple[str, ...], Statistic]] = _parsed()

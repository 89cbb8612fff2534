"""Shards, their splitting, and the setup of the cluster: what transcripts cannot show."""

from __future__ import annotations

from couchdal.backends.memory import MemoryBackend

JOB = {"type": "split", "db": "db", "range": "00000000-7fffffff"}


def shards(send) -> list[str]:
    return sorted(send("GET", "/db/_shards").value()["shards"])


def test_every_document_is_in_one_of_the_shards(send):
    send("PUT", "/db?q=7")
    ranges = shards(send)
    assert len(ranges) == send("GET", "/db").value()["cluster"]["q"] == 7
    for number in range(50):
        assert send("GET", f"/db/_shards/d{number}").value()["range"] in ranges


def test_split_shard_is_rolled_back_with_its_job(send, backend: MemoryBackend):
    send("PUT", "/db?q=2")
    snapshot = backend.snapshot()
    assert send("POST", "/_reshard/jobs", JOB).status == 201
    assert shards(send) == ["00000000-3fffffff", "40000000-7fffffff", "80000000-ffffffff"]
    assert send("GET", "/db").value()["cluster"]["q"] == 3
    snapshot.restore()
    assert shards(send) == ["00000000-7fffffff", "80000000-ffffffff"]
    assert send("GET", "/_reshard").value()["total"] == 0


def test_fork_splits_its_own_shards(send, backend: MemoryBackend):
    send("PUT", "/db?q=2")
    send("PUT", "/_reshard/state", {"state": "stopped"})
    job = send("POST", "/_reshard/jobs", JOB).value()[0]["id"]
    fork = backend.fork()
    backend.server, original = fork.server, backend.server
    send("PUT", "/_reshard/state", {"state": "running"})
    assert send("PUT", f"/_reshard/jobs/{job}/state", {"state": "running"}).status == 200
    assert len(shards(send)) == 3
    backend.server = original
    assert len(shards(send)) == 2
    assert send("GET", f"/_reshard/jobs/{job}/state").value()["state"] == "stopped"


def test_job_of_a_deleted_database_is_forgotten(send):
    send("PUT", "/db?q=2")
    send("POST", "/_reshard/jobs", JOB)
    send("DELETE", "/db")
    assert send("GET", "/_reshard/jobs").value() == {"total_rows": 0, "offset": 0, "jobs": []}


def test_node_is_set_up_by_its_configuration(send, backend: MemoryBackend):
    backend.config["couchdb/single_node"] = "false"
    backend.config["cluster/n"] = "3"
    assert send("GET", "/_cluster_setup").value() == {"state": "cluster_disabled"}
    enabled = {"action": "enable_cluster", "bind_address": "0.0.0.0", "node_count": 5, "port": 5985}
    assert send("POST", "/_cluster_setup", enabled).status == 201
    assert (backend.config["cluster/n"], backend.config["chttpd/port"]) == ("3", "5985")
    assert send("GET", "/_cluster_setup").value() == {"state": "cluster_finished"}
    again = send("POST", "/_cluster_setup", enabled)
    assert (again.status, again.value()["reason"]) == (400, "Cluster is already enabled")


def test_finished_cluster_has_the_named_databases(send):
    action = {"action": "finish_cluster", "ensure_dbs_exist": ["_users", "other"]}
    assert send("POST", "/_cluster_setup", action).status == 201
    assert "other" in send("GET", "/_all_dbs").value()
    assert send("POST", "/_cluster_setup", action).value()["reason"] == "Cluster is already finished"


def test_single_node_gets_its_administrator(send, backend: MemoryBackend):
    backend.config["chttpd_auth/iterations"] = "10"
    action = {"action": "enable_single_node", "bind_address": "127.0.0.1", "username": "two", "password": "pw"}
    assert send("POST", "/_cluster_setup", action).status == 201
    assert send("GET", "/_cluster_setup", user=("two", "pw")).value() == {"state": "single_node_enabled"}

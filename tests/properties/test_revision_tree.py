"""Properties of every revision tree: replicas with the same revisions agree, and merging loses nothing."""

from __future__ import annotations

import random

import plain_revision_tree as plain
import pytest
from effort import examples
from hypothesis import given, settings, strategies as st

from couchdal.emulator.engine.revisions.revision import Revision
from couchdal.emulator.engine.revisions.revision_lookup import (
    TreeIndex,
    find,
    find_missing,
    first_nodes,
    latest_leaves,
    merge_answers,
)
from couchdal.emulator.engine.revisions.revision_node import nodes
from couchdal.emulator.engine.revisions.revision_tree import (
    RevisionTree,
    merge,
    ranked_leaves,
    remove_leaves,
    stem,
    winner,
)
from couchdal.emulator.engine.revisions.tree_editor import Merged, TreeEditor

pytestmark = pytest.mark.random

Path = tuple[int, tuple[bytes, ...], bool]


@st.composite
def histories(draw: st.DrawFn) -> list[Path]:
    """Draw all revisions of a document: the position, the ids (newest first), and True for a deletion.

    Each revision is a first one or extends an earlier one.
    """
    paths: list[Path] = []
    for number in range(draw(st.integers(1, 14))):
        parent = draw(st.none() | st.sampled_from(paths)) if paths else None
        rev_id = bytes([draw(st.integers(0, 255)), number]) + bytes(14)
        ids = (rev_id, *parent[1]) if parent is not None else (rev_id,)
        paths.append((len(ids), ids, draw(st.booleans())))
    return paths


def grown(paths: list[Path]) -> RevisionTree:
    tree: RevisionTree = ()
    for position, ids, deleted in paths:
        tree, _ = merge(tree, position, ids, deleted=deleted, body={"body": position})
    return tree


def described(tree: RevisionTree) -> list[tuple[list[Revision], list[bool]]]:
    """Return everything that a tree makes visible, in its order."""
    return [
        ([node.revision for node in leaf.path()], [node.deleted for node in leaf.path() if node.body is not None])
        for leaf in tree
    ]


def tips(paths: list[Path]) -> set[Revision]:
    inner = {(position - 1, ids[1]) for position, ids, _ in paths if len(ids) > 1}
    return {(position, ids[0]) for position, ids, _ in paths} - inner


@given(histories(), st.randoms(use_true_random=False))
def test_merge_result_does_not_depend_on_the_order(paths: list[Path], chance: random.Random) -> None:
    shuffled = list(paths)
    chance.shuffle(shuffled)
    assert described(grown(shuffled)) == described(grown(paths))


@given(histories(), st.data())
def test_merge_of_a_known_revision_changes_nothing(paths: list[Path], data: st.DataObject) -> None:
    tree = grown(paths)
    position, ids, deleted = data.draw(st.sampled_from(paths))
    again, merged = merge(tree, position, ids, deleted=deleted, body={"body": position})
    assert described(again) == described(tree)
    assert merged is Merged.INTERNAL_NODE


@given(histories())
def test_merge_loses_no_leaf_and_no_revision(paths: list[Path]) -> None:
    tree = grown(paths)
    assert {leaf.revision for leaf in tree} == tips(paths)
    assert {node.revision for node in nodes(tree)} == {(position, ids[0]) for position, ids, _ in paths}
    assert find_missing(tree, [(position, ids[0]) for position, ids, _ in paths]) == []


@given(histories())
def test_merge_of_the_leaves_restores_the_whole_history(paths: list[Path]) -> None:
    """A replicator sends only the leaves and the ids of their ancestors."""
    leaves = [path for path in paths if (path[0], path[1][0]) in tips(paths)]
    whole, sent = grown(paths), grown(leaves)
    assert [leaf.revision for leaf in sent] == [leaf.revision for leaf in whole]
    assert {node.revision for node in nodes(sent)} == {node.revision for node in nodes(whole)}
    assert winner(sent).revision == winner(whole).revision


@given(histories(), st.integers(1, 6))
def test_stem_keeps_every_leaf_and_its_newest_ancestors(paths: list[Path], limit: int) -> None:
    tree = grown(paths)
    stemmed = stem(tree, limit)
    assert {leaf.revision for leaf in stemmed} == {leaf.revision for leaf in tree}
    assert winner(stemmed).revision == winner(tree).revision
    for leaf in tree:
        kept = find(stemmed, leaf.revision)
        assert kept is not None
        before = [node.revision for node in leaf.path()]
        after = [node.revision for node in kept.path()]
        assert after[:limit] == before[:limit]
        assert after == before[: len(after)]


@given(histories(), st.integers(1, 6))
def test_stem_is_idempotent(paths: list[Path], limit: int) -> None:
    once = stem(grown(paths), limit)
    assert described(stem(once, limit)) == described(once)


@given(histories())
def test_winner_is_live_if_any_leaf_is_and_ranks_first(paths: list[Path]) -> None:
    tree = grown(paths)
    ranked = ranked_leaves(tree)
    assert ranked[0] is winner(tree)
    assert winner(tree).deleted == all(leaf.deleted for leaf in tree)
    live = [leaf for leaf in tree if leaf.deleted == ranked[0].deleted]
    assert winner(tree).revision == max(leaf.revision for leaf in live)


@given(histories(), st.data())
def test_remove_leaves_removes_only_the_named_branches(paths: list[Path], data: st.DataObject) -> None:
    tree = grown(paths)
    gone = data.draw(st.sets(st.sampled_from([leaf.revision for leaf in tree])))
    rest, removed = remove_leaves(tree, gone)
    assert set(removed) == gone
    assert {leaf.revision for leaf in rest} == {leaf.revision for leaf in tree} - gone


@given(histories(), st.data())
def test_latest_leaves_descend_from_the_revision(paths: list[Path], data: st.DataObject) -> None:
    tree = grown(paths)
    position, ids, _ = data.draw(st.sampled_from(paths))
    leaves, missing = latest_leaves(tree, [(position, ids[0])])
    assert missing == []
    assert {leaf.revision for leaf in leaves} == {
        leaf.revision for leaf in tree if (position, ids[0]) in {node.revision for node in leaf.path()}
    }


@st.composite
def fragments(draw: st.DrawFn) -> list[Path]:
    """Draw paths as hostile replicas send them.

    Few ids, so that one revision has several histories and one id stands at several positions; histories cut short;
    paths that start anywhere, in any order.
    """
    paths: list[Path] = []
    for _ in range(draw(st.integers(1, 12))):
        known = draw(st.none() | st.sampled_from(paths)) if paths else None
        rev_id = st.sampled_from((b"a", b"b", b"c", b"d"))
        if known is None:
            ids = tuple(draw(st.lists(rev_id, min_size=1, max_size=4)))
            position = len(ids) + draw(st.integers(0, 2))
        else:
            dropped = draw(st.integers(0, len(known[1]) - 1))
            above = tuple(draw(st.lists(rev_id, max_size=2)))
            ids = (*above, *known[1][dropped:])
            position = known[0] - dropped + len(above)
            ids = ids[: draw(st.integers(1, len(ids)))]
        paths.append((position, ids, draw(st.booleans())))
    return paths


def whole(tree: RevisionTree) -> list[list[tuple[Revision, bool, object]]]:
    """Return all that a tree is: each leaf's path, with bodies."""
    return [[(node.revision, node.deleted, node.body) for node in leaf.path()] for leaf in tree]


@settings(max_examples=examples(quick=300, soak=20_000), deadline=None)
@given(fragments(), st.integers(1, 5), st.booleans())
def test_editor_makes_the_same_tree_as_plain_merges(paths: list[Path], limit: int, stems: bool) -> None:
    editor = TreeEditor(())
    tree: RevisionTree = ()
    wanted: RevisionTree = ()
    for number, (position, ids, deleted) in enumerate(paths):
        adds_leaf = editor.adds_leaf(position, ids)
        before = whole(tree)
        alone, result = merge(tree, position, ids, deleted=deleted, body={"n": number})
        assert whole(tree) == before, "a merge changed the old tree"
        wanted, outcome = plain.merge(wanted, position, ids, deleted=deleted, body={"n": number})
        assert result is outcome
        assert editor.merge(position, ids, deleted=deleted, body={"n": number}) is outcome
        assert adds_leaf is (outcome is Merged.NEW_LEAF)
        assert whole(alone) == whole(wanted)
        last = winner(wanted)
        dead = editor.deleted_winner()
        assert (dead.revision if dead is not None else None) == (last.revision if last.deleted else None)
        tree = alone
        if stems and number % 3 == 2:
            tree = editor.tree()
            assert whole(tree) == whole(wanted)
            tree, wanted = stem(tree, limit), plain.stem(wanted, limit)
            assert whole(tree) == whole(wanted)
            editor = TreeEditor(tree)
    assert whole(editor.tree()) == whole(wanted)
    assert whole(stem(wanted, limit)) == whole(plain.stem(wanted, limit))


@settings(max_examples=examples(quick=300, soak=20_000), deadline=None)
@given(fragments(), st.integers(1, 5), st.booleans(), st.data())
def test_lookups_find_the_same_as_plain_ones(
    paths: list[Path], limit: int, newest_first: bool, data: st.DataObject
) -> None:
    tree = grown(paths)
    first, index = first_nodes(tree), TreeIndex(tree)
    revisions = sorted({(position - index, rev_id) for position, ids, _ in paths for index, rev_id in enumerate(ids)})
    for revision in [*revisions, (9, b"z")]:
        assert find(tree, revision) is plain.find(tree, revision) is first.get(revision)
        assert index.find(revision) is first.get(revision)
        assert index.latest_leaves(revision) == latest_leaves(tree, [revision])[0]
    leaves = data.draw(st.sets(st.sampled_from(tree)))
    found = [leaf for leaf in tree if leaf in leaves]
    missing = data.draw(st.lists(st.sampled_from([*revisions, (9, b"z")]), max_size=3))
    answers = merge_answers(found, missing, limit, newest_first=newest_first)
    assert answers == plain.merge_answers(found, missing, limit, newest_first=newest_first)

"""Query groups: frozen, shared, padded, drawn at each step, resumable."""

import pytest
import torch

from projects.clockdistill.modeling.query_groups import (
    GeneralQueries,
    QueryGroup,
    QueryGroups,
    SpecificQueries,
    TargetAwareQueries,
)
from tests.modeling.tiny_detectors import ADAPTERS

TARGETS = [
    {
        "labels": torch.tensor([2, 0]),
        "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.2, 0.1, 0.1]]),
    },
    {"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)},
]
EMPTY = [TARGETS[1], TARGETS[1]]


def test_target_aware_queries_are_the_sum_of_label_embedding_and_box_mlp():
    queries = TargetAwareQueries(num_classes=3, embed_dim=8)
    group = queries(TARGETS)
    label, box = TARGETS[0]["labels"][0], TARGETS[0]["boxes"][0]
    content, position = queries.label_embedding.weight[label], queries.box_mlp(box)  # eq. (6), (7)
    torch.testing.assert_close(group.content[0, 0], content)
    torch.testing.assert_close(group.position[0, 0], position)
    # Deformable-DETR's attention adds the position; the other decoders get the sum, eq. (8)
    for family, expected in (
        ("deformable_detr", content),
        ("dino", content + position),
        ("dab_detr", content + position),
    ):
        torch.testing.assert_close(ADAPTERS[family]().contents([group])[0][0, 0], expected)
    torch.testing.assert_close(group.reference_points[0, :2], TARGETS[0]["boxes"])
    assert group.valid.tolist() == [[True, True], [False, False]]
    assert group.copies == 3


def test_target_aware_queries_are_unlearnable_and_the_same_for_every_run():
    queries = TargetAwareQueries(num_classes=3, embed_dim=8)
    assert not any(parameter.requires_grad for parameter in queries.parameters())
    group = queries(TARGETS)
    again = TargetAwareQueries(num_classes=3, embed_dim=8)(TARGETS)
    assert not group.content.requires_grad
    torch.testing.assert_close(group.content, again.content, rtol=0, atol=0)


def test_building_queries_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    groups = QueryGroups(8, 8, TargetAwareQueries(3, 8), GeneralQueries(4, 8))
    groups(TARGETS)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_a_batch_without_objects_still_has_one_filler_query():
    group = TargetAwareQueries(num_classes=3, embed_dim=8)(EMPTY)
    assert group.content.shape == (2, 1, 8) and not group.valid.any()


def test_general_anchors_are_drawn_at_each_step_and_shared_by_the_images():
    queries = GeneralQueries(num_points=5, embed_dim=8)
    first, second = queries(TARGETS), queries(TARGETS)
    assert first.reference_points.shape == (2, 5, 4)
    torch.testing.assert_close(first.reference_points[0], first.reference_points[1])
    assert not torch.equal(first.reference_points, second.reference_points)
    assert ((first.reference_points > 0) & (first.reference_points < 1)).all()
    assert first.content.eq(0).all() and first.valid is None


def test_a_resumed_run_draws_what_an_uninterrupted_one_would():
    whole = GeneralQueries(num_points=5, embed_dim=8)
    whole(TARGETS)
    resumed = GeneralQueries(num_points=5, embed_dim=8)
    resumed.load_state_dict(whole.state_dict())
    expected, got = whole(TARGETS), resumed(TARGETS)
    torch.testing.assert_close(got.reference_points, expected.reference_points, rtol=0, atol=0)


def test_specific_queries_are_the_first_of_the_teachers_without_gradient():
    own = QueryGroup(torch.rand(2, 6, 8, requires_grad=True), torch.rand(2, 6, 4))
    group = SpecificQueries(num_points=4)(own)
    torch.testing.assert_close(group.content, own.content[:, :4])
    torch.testing.assert_close(group.reference_points, own.reference_points[:, :4])
    assert not group.content.requires_grad
    assert len(SpecificQueries(num_points=100)(own)) == 6


def test_kinds_are_switchable():
    assert QueryGroups(8, 8)(TARGETS) == ()
    (group,) = QueryGroups(8, 8, general=GeneralQueries(2, 8))(TARGETS)
    assert len(group) == 2


@pytest.mark.parametrize(
    "build",
    [
        lambda: TargetAwareQueries(3, 8, copies=0),
        lambda: GeneralQueries(0, 8),
        lambda: SpecificQueries(0),
    ],
)
def test_bad_options_are_refused(build):
    with pytest.raises(ValueError, match="copies=0|num_points=0"):
        build()


def test_general_queries_draw_position_queries_where_they_are_wanted():
    queries = GeneralQueries(num_points=4, embed_dim=8, position_queries=True)
    group = queries(TARGETS)
    later = queries(TARGETS)
    assert group.position.shape == (2, 4, 8)
    torch.testing.assert_close(group.position[0], group.position[1])
    assert not torch.equal(group.position, later.position)
    without = GeneralQueries(num_points=4, embed_dim=8)(TARGETS)
    assert without.position is None
    torch.testing.assert_close(without.reference_points, group.reference_points)


def test_target_aware_position_is_the_box_mlp():
    queries = TargetAwareQueries(num_classes=3, embed_dim=8)
    group = queries(TARGETS)
    expected = queries.box_mlp(TARGETS[0]["boxes"])  # eq. (7)
    torch.testing.assert_close(group.position[0], expected)


def test_groups_reach_a_student_of_another_width_by_a_trained_layer():
    groups = QueryGroups(8, 6, TargetAwareQueries(3, 8), GeneralQueries(4, 8))
    made = groups(TARGETS)
    for group, adapted in zip(made, groups.for_student(made), strict=True):
        assert adapted.content.shape[-1] == 6 and adapted.content.requires_grad
        assert adapted.reference_points is group.reference_points
        assert (adapted.position is None) == (group.position is None)


def test_groups_of_the_same_width_pass_unchanged():
    groups = QueryGroups(8, 8, TargetAwareQueries(3, 8))
    made = groups(TARGETS)
    assert groups.for_student(made)[0].content is made[0].content

import pytest
import torch

from mcdm_core.errors import MCDMError
from mcdm_core.models.layers.attention import fast_attention, random_features
from mcdm_core.models.temporal_attention import MemoryEfficientTemporalAttention, memory_recursion, recursion_weights


def literal_recursion(f_ac_ref, alpha, memory):
    past, result = memory, []
    for i in range(f_ac_ref.shape[1]):
        past = f_ac_ref[:, i] if past is None else alpha * past + (1 - alpha) * f_ac_ref[:, i]
        result.append(past)
    return torch.stack(result, 1)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("carried", [False, True])
def test_the_matrix_product_equals_the_loop(alpha, carried):
    torch.manual_seed(0)
    f_ac_ref, memory = torch.randn(2, 6, 4, 3), torch.randn(2, 4, 3) if carried else None
    expected = literal_recursion(f_ac_ref, alpha, memory)
    torch.testing.assert_close(memory_recursion(f_ac_ref, alpha, memory), expected, atol=1e-6, rtol=1e-5)


def test_two_clips_with_a_carried_memory_equal_one_long_clip():
    torch.manual_seed(1)
    frames = torch.randn(1, 12, 3, 2)
    whole = memory_recursion(frames, 0.3)
    first = memory_recursion(frames[:, :5], 0.3)
    second = memory_recursion(frames[:, 5:], 0.3, first[:, -1])
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-6, rtol=1e-5)


def test_alpha_0_copies_and_alpha_1_keeps_the_first():
    frames = torch.randn(1, 5, 2, 2)
    assert torch.equal(memory_recursion(frames, 0.0), frames)
    assert torch.equal(memory_recursion(frames, 1.0), frames[:, :1].expand_as(frames))


def test_the_matrix_is_lower_triangular_with_rows_that_sum_to_one():
    matrix, carry = recursion_weights(7, 0.1, carried=False)
    assert torch.equal(matrix, matrix.tril()) and not carry.any()
    torch.testing.assert_close(matrix.sum(1), torch.ones(7))
    matrix, carry = recursion_weights(7, 0.1, carried=True)
    torch.testing.assert_close(matrix.sum(1) + carry, torch.ones(7))


def test_bad_alpha_and_foreign_memory_are_refused():
    with pytest.raises(MCDMError, match="alpha"):
        memory_recursion(torch.zeros(1, 2, 3, 4), 1.5)
    with pytest.raises(MCDMError, match="memory"):
        memory_recursion(torch.zeros(1, 2, 3, 4), 0.1, torch.zeros(1, 5, 4))


def test_favor_approaches_exact_attention_as_features_grow():
    torch.manual_seed(2)
    q, k, v = (0.5 * torch.randn(2, 2, 8, 16) for _ in range(3))
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def error(number):
        runs = [fast_attention(q, k, v, random_features(number, 16, seed)) for seed in range(4)]
        return sum((r - exact).square().mean().sqrt().item() for r in runs) / 4

    few, many = error(16), error(4096)
    assert many < few / 4 and many < 0.01


def test_favor_equals_its_formula_written_out():
    """phi(x) = exp(w x - |x|^2 / 2) over the features; out = sum phi(q) phi(k) v / sum phi(q) phi(k)."""
    torch.manual_seed(4)
    q, k, v = (0.5 * torch.randn(number, 8, dtype=torch.float64) for number in (3, 5, 5))
    directions = random_features(32, 8).double()

    def phi(x):
        x = x / 8**0.25
        return torch.stack([torch.exp(w @ x - x @ x / 2) for w in directions])

    expected = []
    for query in q:
        weights = torch.stack([phi(query) @ phi(key) for key in k])
        expected.append((weights[:, None] * v).sum(0) / weights.sum())
    result = fast_attention(q[None, None], k[None, None], v[None, None], directions)[0, 0]
    torch.testing.assert_close(result, torch.stack(expected), atol=1e-3, rtol=1e-3)


def test_the_directions_of_favor_are_orthogonal_in_blocks():
    directions = random_features(24, 8)
    for block in directions.split(8):
        products = block @ block.T
        torch.testing.assert_close(products, torch.diag(products.diagonal()), atol=1e-4, rtol=1e-4)


def test_favor_survives_large_queries_and_keys():
    q, k, v = 30 * torch.randn(1, 1, 4, 8), 30 * torch.randn(1, 1, 6, 8), torch.randn(1, 1, 6, 8)
    assert torch.isfinite(fast_attention(q, k, v, random_features(64, 8))).all()


def layer(motion_module, kind="exact"):
    torch.manual_seed(3)
    result = MemoryEfficientTemporalAttention(
        16, 2, length=8, norm_groups=4, motion_module=motion_module, kind=kind, features=32
    )
    torch.nn.init.normal_(result.proj_out.weight, std=0.3)
    return result


def literal_layer_4(module, memory, clip):
    """Attention of section 3.4 over the whole concatenation, per position, the memory's half cut off at the end."""
    block, (b, f, n) = module.transformer_blocks[0], clip.shape[:3]
    out = torch.zeros_like(clip)
    for i in range(b):
        for p in range(n):
            x = torch.cat([memory[i, :, p], clip[i, :, p]])
            y = block.norm1(x) + block.pos_embed.pe[0, : len(x)]
            q, k, v = (
                m(y).unflatten(-1, (2, -1)).transpose(0, 1)
                for m in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
            )
            a = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v
            a = block.attn1.to_out[0](a.transpose(0, 1).flatten(1))
            out[i, :, p] = clip[i, :, p] + module.proj_out(a[f:])
    return out


@torch.no_grad()
def test_layer_4_equals_attention_over_the_concatenation_with_one_half_kept():
    module = layer(motion_module=False)
    f_ac_ref, f_pc_ref, carried = torch.randn(2, 4, 3, 16), torch.randn(2, 4, 3, 16), torch.randn(2, 3, 16)
    memory = literal_recursion(f_ac_ref, module.alpha, carried)
    result, new = module(f_ac_ref, f_pc_ref, carried)
    assert result.shape == f_pc_ref.shape
    torch.testing.assert_close(result, literal_layer_4(module, memory, f_pc_ref), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(new, memory[:, -1], atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("motion_module", [False, True])
def test_the_memory_reaches_the_clip_through_its_values_only(motion_module):
    module = layer(motion_module)
    clip = torch.randn(1, 4, 2, 16)
    archives = [torch.randn(1, 4, 2, 16) for _ in range(2)]
    a, b = (module(x, clip)[0] for x in archives)
    assert (a - b).abs().max() > 1e-3
    a, b = (module(x * 0, clip)[0] for x in archives)
    torch.testing.assert_close(a, b)


@torch.no_grad()
def test_exact_and_favor_share_all_weights():
    exact, favor = layer(True), layer(True, "favor")
    assert exact.state_dict().keys() == favor.state_dict().keys()
    f_ac_ref, clip = torch.randn(1, 4, 2, 16), torch.randn(1, 4, 2, 16)
    favor.load_state_dict(exact.state_dict())
    a, b = exact(f_ac_ref, clip)[0], favor(f_ac_ref, clip)[0]
    assert 0 < (a - b).abs().max() < 0.5 * (a - clip).abs().max()


def test_more_frames_than_positions_are_refused():
    with pytest.raises(MCDMError, match="positions"):
        layer(False)(torch.randn(1, 5, 2, 16), torch.randn(1, 5, 2, 16))


def test_layer_4_starts_as_the_identity_on_f_pc_ref():
    module = MemoryEfficientTemporalAttention(16, 2, length=8, norm_groups=4)
    clip = torch.randn(1, 4, 2, 16)
    assert torch.equal(module(torch.randn(1, 4, 2, 16), clip)[0], clip)

//! What each role is called in a Hugging Face checkpoint, for reader and writer alike.

use smidgen_runtime::format::Role;

/// Name of a Llama-like tensor behind `model.` (`layers.N.` for those of a layer). The head is
/// named in full: it stands outside the prefix.
pub(crate) const fn llama(role: Role) -> Option<&'static str> {
    Some(match role {
        Role::Embedding => "embed_tokens.weight",
        Role::FinalNorm => "norm.weight",
        Role::AttnNorm => "input_layernorm.weight",
        Role::Q => "self_attn.q_proj.weight",
        Role::QBias => "self_attn.q_proj.bias",
        Role::K => "self_attn.k_proj.weight",
        Role::KBias => "self_attn.k_proj.bias",
        Role::V => "self_attn.v_proj.weight",
        Role::VBias => "self_attn.v_proj.bias",
        Role::QNorm => "self_attn.q_norm.weight",
        Role::KNorm => "self_attn.k_norm.weight",
        Role::O => "self_attn.o_proj.weight",
        Role::OBias => "self_attn.o_proj.bias",
        Role::FfnNorm => "post_attention_layernorm.weight",
        Role::Gate => "mlp.gate_proj.weight",
        Role::GateBias => "mlp.gate_proj.bias",
        Role::Up => "mlp.up_proj.weight",
        Role::UpBias => "mlp.up_proj.bias",
        Role::Down => "mlp.down_proj.weight",
        Role::DownBias => "mlp.down_proj.bias",
        _ => return None,
    })
}

/// Name of a GPT-2 tensor behind `transformer.` (`h.N.` for those of a layer). Queries, keys and
/// values lie in one tensor and have its name.
pub(crate) const fn gpt2(role: Role) -> Option<&'static str> {
    Some(match role {
        Role::Embedding => "wte.weight",
        Role::PositionEmbedding => "wpe.weight",
        Role::FinalNorm => "ln_f.weight",
        Role::FinalNormBias => "ln_f.bias",
        Role::AttnNorm => "ln_1.weight",
        Role::AttnNormBias => "ln_1.bias",
        Role::Q | Role::K | Role::V => "attn.c_attn.weight",
        Role::QBias | Role::KBias | Role::VBias => "attn.c_attn.bias",
        Role::O => "attn.c_proj.weight",
        Role::OBias => "attn.c_proj.bias",
        Role::FfnNorm => "ln_2.weight",
        Role::FfnNormBias => "ln_2.bias",
        Role::Up => "mlp.c_fc.weight",
        Role::UpBias => "mlp.c_fc.bias",
        Role::Down => "mlp.c_proj.weight",
        Role::DownBias => "mlp.c_proj.bias",
        _ => return None,
    })
}

/// The head, if it is not the embedding.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Every role, in the file's order.
pub(crate) fn roles() -> impl Iterator<Item = Role> {
    (0..64).filter_map(Role::from_u8)
}

//! What each role is called in a GGUF file, for reader and writer alike.

use smidgen_runtime::format::Role;

/// Name of a tensor (behind `blk.N.` for those of a layer). GPT-2's queries, keys and values lie in
/// one tensor and have its name.
pub(crate) const fn name(role: Role, gpt2: bool) -> Option<&'static str> {
    Some(match role {
        Role::Embedding => "token_embd.weight",
        Role::PositionEmbedding => "position_embd.weight",
        Role::FinalNorm => "output_norm.weight",
        Role::FinalNormBias => "output_norm.bias",
        Role::Head => "output.weight",
        Role::AttnNorm => "attn_norm.weight",
        Role::AttnNormBias => "attn_norm.bias",
        Role::Q | Role::K | Role::V if gpt2 => "attn_qkv.weight",
        Role::QBias | Role::KBias | Role::VBias if gpt2 => "attn_qkv.bias",
        Role::Q => "attn_q.weight",
        Role::QBias => "attn_q.bias",
        Role::K => "attn_k.weight",
        Role::KBias => "attn_k.bias",
        Role::V => "attn_v.weight",
        Role::VBias => "attn_v.bias",
        Role::QNorm => "attn_q_norm.weight",
        Role::KNorm => "attn_k_norm.weight",
        Role::O => "attn_output.weight",
        Role::OBias => "attn_output.bias",
        Role::FfnNorm => "ffn_norm.weight",
        Role::FfnNormBias => "ffn_norm.bias",
        Role::Gate => "ffn_gate.weight",
        Role::GateBias => "ffn_gate.bias",
        Role::Up => "ffn_up.weight",
        Role::UpBias => "ffn_up.bias",
        Role::Down => "ffn_down.weight",
        Role::DownBias => "ffn_down.bias",
        _ => return None,
    })
}

/// The name in the file.
pub(crate) fn full_name(role: Role, layer: u32, gpt2: bool) -> Option<String> {
    let name = name(role, gpt2)?;
    Some(if role.is_per_layer() { format!("blk.{layer}.{name}") } else { name.into() })
}
